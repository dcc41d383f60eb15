import os
import signal
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from proposals import SelectiveSearch, WindowStore
from proposals.disk import read_picture


@dataclass(frozen=True)
class Corners:
    """A method of no cost: the whole image, and a window that tells the pixels."""

    key: str = "0123"
    name: str = "corners"

    def __call__(self, image):
        height, width = image.shape[:2]
        return np.array([[0, 0, width, height], [0, 0, 1, 1 + int(image[0, 0, 0])]], np.float32)


def save_picture(path, value, height=12, width=16):
    Image.fromarray(np.full((height, width, 3), value, np.uint8)).save(path)
    return path


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / "pictures").mkdir()
    return [save_picture(tmp_path / "pictures" / f"{i:03}.png", 10 * i) for i in range(5)]


@pytest.fixture
def store(tmp_path):
    return WindowStore(tmp_path / "cache", Corners())


def files_of(store):
    return {path.name: path.read_bytes() for path in store.folder.glob("*.npy")}


@pytest.mark.parametrize("workers", [1, 2])
def test_windows_come_back(store, pictures, workers):
    assert sorted(store.compute(pictures, workers)) == pictures
    for index, picture in enumerate(pictures):
        windows = store.load(picture)
        assert windows.dtype == np.float32
        expected = [[0, 0, 16, 12], [0, 0, 1, 1 + 10 * index]]
        np.testing.assert_array_equal(windows, expected)
    assert sorted(store.seconds) == pictures
    assert store.missing(pictures) == []


def test_files_do_not_depend_on_workers_or_order(tmp_path, pictures):
    stores = [WindowStore(tmp_path / str(i), Corners()) for i in range(3)]
    list(stores[0].compute(pictures, 1))
    list(stores[1].compute(pictures[::-1], 2))
    list(stores[2].compute(pictures[3:]))
    list(stores[2].compute(pictures))
    assert len(files_of(stores[0])) == 5
    assert files_of(stores[0]) == files_of(stores[1]) == files_of(stores[2])


def test_only_what_is_missing_is_made(store, pictures):
    list(store.compute(pictures[1:3]))
    before = {path: path.stat().st_mtime_ns for path in store.folder.glob("*.npy")}
    assert store.missing(pictures) == [pictures[0], *pictures[3:]]
    assert sorted(store.compute(pictures)) == [pictures[0], *pictures[3:]]
    assert all(path.stat().st_mtime_ns == at for path, at in before.items())
    assert list(store.compute(pictures)) == []
    assert list(store.compute([])) == []


def test_stopping_early_keeps_what_was_done(store, pictures):
    for _ in store.compute(pictures):
        break
    assert len(store.missing(pictures)) < 5
    list(store.compute(pictures))
    assert store.missing(pictures) == []


def test_an_edited_picture_gets_new_windows(store, pictures):
    list(store.compute(pictures))
    save_picture(pictures[0], 99)
    assert store.missing(pictures) == [pictures[0]]
    with pytest.raises(FileNotFoundError, match="no windows of"):
        store.load(pictures[0])
    list(store.compute(pictures))
    assert store.load(pictures[0])[1, 3] == 100


def test_a_moved_picture_keeps_its_windows(store, pictures, tmp_path):
    list(store.compute(pictures))
    moved = pictures[0].rename(tmp_path / pictures[0].name)
    assert store.missing([moved]) == []


def test_same_stem_in_two_folders_is_two_pictures(store, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = save_picture(tmp_path / "a" / "x.png", 1)
    second = save_picture(tmp_path / "b" / "x.png", 2)
    list(store.compute([first, second]))
    assert store.load(first)[1, 3] == 2
    assert store.load(second)[1, 3] == 3


def test_a_picture_given_twice_is_made_once(store, pictures):
    assert list(store.compute([pictures[0], pictures[0]])) == [pictures[0]]


def test_folder_follows_name_and_key(tmp_path):
    store = WindowStore(tmp_path, Corners())
    assert store.folder == tmp_path / "windows" / "corners-0123"
    assert WindowStore(tmp_path, Corners(key="4567")).folder != store.folder
    assert not store.folder.exists()
    method = SelectiveSearch()
    folder = WindowStore(tmp_path, method).folder
    assert folder.name == f"selective_search-{method.key}"


def test_folder_says_which_method_it_is_of(store, pictures):
    list(store.compute(pictures))
    assert (store.folder / "method.txt").read_text() == "Corners(key='0123', name='corners')\n"


def test_selective_search_through_processes_equals_one(tmp_path, rng):
    pixels = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    pixels[20:50, 10:60] = (200, 30, 30)
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for index, path in enumerate(paths):
        Image.fromarray(np.roll(pixels, 7 * index, axis=1)).save(path)
    store = WindowStore(tmp_path / "cache", SelectiveSearch())
    assert sorted(store.compute(paths, workers=2)) == paths
    for path in paths:
        np.testing.assert_array_equal(store.load(path), SelectiveSearch()(read_picture(path)))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_unreadable_picture_is_named(store, pictures, workers):
    pictures[2].write_bytes(pictures[2].read_bytes()[:45])
    with pytest.raises(ValueError, match=r"002\.png is not a readable picture"):
        list(store.compute(pictures, workers))
    save_picture(pictures[2], 20)
    list(store.compute(pictures, workers))
    assert store.missing(pictures) == []


def test_a_missing_picture_is_named_before_any_work(store, pictures, tmp_path):
    none = tmp_path / "none.png"
    for call in (store.path_for, store.load):
        with pytest.raises(FileNotFoundError, match=r"no picture at .*none\.png"):
            call(none)
    with pytest.raises(FileNotFoundError, match=r"no picture at .*none\.png"):
        list(store.compute([*pictures, none]))
    assert not store.folder.exists()


def test_workers_under_one_are_refused(store, pictures):
    with pytest.raises(ValueError, match="workers must be 1 or more, got 0"):
        list(store.compute(pictures, 0))


def test_windows_not_made_yet_are_explained(store, pictures):
    with pytest.raises(FileNotFoundError, match=r"no windows of .*000\.png .*make_proposals\.py"):
        store.load(pictures[0])


def broken_files(tmp_path):
    """What a file of windows must not be, by what the message says was found."""
    good = np.zeros((3, 4), np.float32)
    np.save(tmp_path / "good.npy", good)
    whole = (tmp_path / "good.npy").read_bytes()
    cases = {"EOF": b"", "[Rr]ead": whole[:-7], "magic": b"something else " * 9}
    for found, array in {
        "float64": good.astype(np.float64),
        r"shape \(3, 5\)": np.zeros((3, 5), np.float32),
        r"shape \(12,\)": good.ravel(),
    }.items():
        np.save(tmp_path / "other.npy", array)
        cases[found] = (tmp_path / "other.npy").read_bytes()
    np.save(tmp_path / "other.npy", np.array([{}], object), allow_pickle=True)
    return cases | {"pickle": (tmp_path / "other.npy").read_bytes()}


def test_a_broken_file_is_refused_by_name(store, pictures, tmp_path):
    list(store.compute(pictures))
    path = store.path_for(pictures[0])
    for found, content in broken_files(tmp_path).items():
        path.write_bytes(content)
        message = rf"{path.name} does not hold windows: .*({found}).*; delete it and run again"
        with pytest.raises(ValueError, match=message):
            store.load(pictures[0])
    path.unlink()
    assert list(store.compute(pictures)) == [pictures[0]]


def test_a_partial_file_of_a_killed_run_is_no_result(store, pictures):
    path = store.path_for(pictures[0])
    path.parent.mkdir(parents=True)
    (path.parent / f".{path.name}.abc.part").write_bytes(b"half")
    assert store.missing(pictures) == pictures
    list(store.compute(pictures))
    assert store.load(pictures[0]).shape == (2, 4)


def test_killed_and_started_again_ends_with_the_same_bytes(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(12)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (90, 90, 3), dtype=np.uint8)).save(path)
    program = (
        "import sys; from proposals import SelectiveSearch, WindowStore\n"
        "store = WindowStore(sys.argv[1], SelectiveSearch())\n"
        "for done in store.compute(sys.argv[2:], 2): print(done, flush=True)\n"
    )
    arguments = [sys.executable, "-c", program, tmp_path / "killed", *paths]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.killpg(process.pid, signal.SIGKILL)
    killed = WindowStore(tmp_path / "killed", SelectiveSearch())
    assert len(killed.missing(paths)) < 12
    list(killed.compute(paths))
    whole = WindowStore(tmp_path / "whole", SelectiveSearch())
    list(whole.compute(paths))
    assert len(files_of(whole)) == 12
    assert files_of(killed) == files_of(whole)


def test_the_library_does_not_need_tqdm_or_torch():
    program = (
        "import sys; sys.modules['tqdm'] = sys.modules['torch'] = None\n"
        "import proposals\n"
        "assert 'cv2' not in sys.modules and 'detection' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
