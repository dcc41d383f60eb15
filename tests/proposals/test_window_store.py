import os
import signal
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from joblib import Parallel
from PIL import Image
from safetensors.numpy import load_file, save

from files.artefacts import DamagedArtefact
from files.images import UnreadableImage, read_image
from proposals import EdgeBoxes, SelectiveSearch, WindowStore


@dataclass(frozen=True)
class Corners:
    """A fast method: the whole image, and a window that depends on the pixels."""

    key: str = "0123"
    name: str = "corners"

    def __call__(self, image):
        height, width = image.shape[:2]
        return np.array([[0, 0, width, height], [0, 0, 1, 1 + int(image[0, 0, 0])]], np.float32)


def save_image(path, value, height=12, width=16):
    Image.fromarray(np.full((height, width, 3), value, np.uint8)).save(path)
    return path


@pytest.fixture
def images(tmp_path):
    (tmp_path / "images").mkdir()
    return [save_image(tmp_path / "images" / f"{i:03}.png", 10 * i) for i in range(5)]


@pytest.fixture
def store(tmp_path):
    return WindowStore(tmp_path / "cache", Corners())


def processes(workers):
    return Parallel(workers, return_as="generator_unordered")


def filled(store, images, workers=1):
    """Make the missing windows and return their images; fail if one cannot be read."""
    found = list(store.compute(images, processes(workers)))
    assert not [failure for _, failure in found if failure]
    return [image for image, _ in found]


def files_of(store):
    return {path.name: path.read_bytes() for path in store.folder.glob("*.safetensors")}


@pytest.mark.parametrize("workers", [1, 2])
def test_windows_come_back(store, images, workers):
    assert sorted(filled(store, images, workers)) == images
    for index, image in enumerate(images):
        windows = store.load(image)
        assert windows.dtype == np.float32
        expected = [[0, 0, 16, 12], [0, 0, 1, 1 + 10 * index]]
        np.testing.assert_array_equal(windows, expected)
    assert sorted(store.seconds) == images
    assert store.missing(images) == []


def test_files_do_not_depend_on_workers_or_order(tmp_path, images):
    stores = [WindowStore(tmp_path / str(i), Corners()) for i in range(3)]
    list(stores[0].compute(images))
    list(stores[1].compute(images[::-1], processes(2)))
    list(stores[2].compute(images[3:]))
    list(stores[2].compute(images))
    assert len(files_of(stores[0])) == 5
    assert files_of(stores[0]) == files_of(stores[1]) == files_of(stores[2])


def test_only_what_is_missing_is_made(store, images):
    list(store.compute(images[1:3]))
    before = {path: path.stat().st_mtime_ns for path in store.folder.glob("*.safetensors")}
    assert store.missing(images) == [images[0], *images[3:]]
    assert sorted(filled(store, images)) == [images[0], *images[3:]]
    assert all(path.stat().st_mtime_ns == at for path, at in before.items())
    assert list(store.compute(images)) == []
    assert list(store.compute([])) == []


def test_stopping_early_keeps_what_was_done(store, images):
    for _ in store.compute(images):
        break
    assert len(store.missing(images)) < 5
    list(store.compute(images))
    assert store.missing(images) == []


def test_an_edited_image_gets_new_windows(store, images):
    list(store.compute(images))
    save_image(images[0], 99)
    assert store.missing(images) == [images[0]]
    with pytest.raises(FileNotFoundError, match="no windows of"):
        store.load(images[0])
    list(store.compute(images))
    assert store.load(images[0])[1, 3] == 100


def test_a_moved_image_keeps_its_windows(store, images, tmp_path):
    list(store.compute(images))
    moved = images[0].rename(tmp_path / images[0].name)
    assert store.missing([moved]) == []


def test_same_stem_in_two_folders_is_two_images(store, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = save_image(tmp_path / "a" / "x.png", 1)
    second = save_image(tmp_path / "b" / "x.png", 2)
    list(store.compute([first, second]))
    assert store.load(first)[1, 3] == 2
    assert store.load(second)[1, 3] == 3


def test_an_image_given_twice_is_made_once(store, images):
    assert filled(store, [images[0], images[0]]) == [images[0]]


def test_folder_follows_name_and_key(tmp_path):
    store = WindowStore(tmp_path, Corners())
    assert store.folder == tmp_path / "windows" / "corners-0123"
    assert WindowStore(tmp_path, Corners(key="4567")).folder != store.folder
    assert not store.folder.exists()
    method = SelectiveSearch()
    folder = WindowStore(tmp_path, method).folder
    assert folder.name == f"selective_search-{method.key}"


def test_folder_says_which_method_it_is_of(store, images):
    list(store.compute(images))
    assert (store.folder / "method.txt").read_text() == "Corners(key='0123', name='corners')\n"


def test_selective_search_through_processes_equals_one(tmp_path, rng):
    pixels = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    pixels[20:50, 10:60] = (200, 30, 30)
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for index, path in enumerate(paths):
        Image.fromarray(np.roll(pixels, 7 * index, axis=1)).save(path)
    store = WindowStore(tmp_path / "cache", SelectiveSearch())
    assert sorted(filled(store, paths, workers=2)) == paths
    for path in paths:
        np.testing.assert_array_equal(store.load(path), SelectiveSearch()(read_image(path)))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_unreadable_image_stops_no_other(store, images, workers):
    images[2].write_bytes(images[2].read_bytes()[:45])
    found = dict(store.compute(images, processes(workers)))
    assert sorted(found) == images
    failure = found.pop(images[2])
    assert isinstance(failure, UnreadableImage)
    assert "002.png is not a readable image" in str(failure)
    assert set(found.values()) == {None}
    assert store.missing(images) == [images[2]]
    assert images[2] not in store.seconds
    save_image(images[2], 20)
    assert filled(store, images, workers) == [images[2]]
    assert store.missing(images) == []


def test_each_of_several_equal_unreadable_images_is_named(store, tmp_path):
    paths = [tmp_path / folder / "x.png" for folder in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(b"")
    found = dict(store.compute(paths))
    assert [str(path) in str(found[path]) for path in paths] == [True, True]


@pytest.mark.parametrize("shape", [(40, 12000), (12000, 40), (1, 3000), (1, 1), (2, 700)])
def test_odd_shapes_have_windows(tmp_path, shape, rng):
    path = tmp_path / "long.png"
    Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)).save(path)
    for method in (SelectiveSearch(), EdgeBoxes()):
        store = WindowStore(tmp_path / "cache", method)
        assert filled(store, [path]) == [path]
        windows = store.load(path)
        assert (windows >= 0).all()
        assert (windows[:, 2:] <= shape[::-1]).all()


def test_dots_subfolders_and_any_letters_are_names(store, tmp_path):
    names = [
        "a.rf.1.jpg",
        "a.rf.2.jpg",
        "sub.folder/a.rf.1.jpg",
        "猫 & dog?.v2.png",
        "ß" * 60 + ".bmp",
    ]
    paths = [tmp_path / "images" / name for name in names]
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_image(path, 40 * number)
    assert sorted(filled(store, paths)) == sorted(paths)
    files = [store.path_for(path) for path in paths]
    assert len(set(files)) == len(paths)
    assert {file.parent for file in files} == {store.folder}
    assert files[0].name.startswith("a.rf.1.jpg-")
    for number, path in enumerate(paths):
        assert abs(store.load(path)[1, 3] - 1 - 40 * number) < 3


def test_windows_are_one_artefact_that_others_read(store, images):
    filled(store, images[:1])
    (array,) = load_file(store.path_for(images[0])).values()
    np.testing.assert_array_equal(array, store.load(images[0]))


def test_a_missing_image_is_named_before_any_work(store, images, tmp_path):
    none = tmp_path / "none.png"
    for call in (store.path_for, store.load):
        with pytest.raises(FileNotFoundError, match=r"no image at .*none\.png"):
            call(none)
    with pytest.raises(FileNotFoundError, match=r"no image at .*none\.png"):
        list(store.compute([*images, none]))
    assert not store.folder.exists()


def test_windows_not_made_yet_are_explained(store, images):
    with pytest.raises(FileNotFoundError, match=r"no windows of .*000\.png .*make_proposals\.py"):
        store.load(images[0])


def test_a_damaged_file_is_refused_by_name(store, images):
    filled(store, images)
    path, other = (store.path_for(each) for each in images[:2])
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[-3] ^= 4
    for content in (
        b"",
        whole[: len(whole) // 2],
        bytes(len(whole)),
        bytes(changed),
        other.read_bytes(),
        save({"windows": np.zeros((2, 4), np.float32)}),
    ):
        path.write_bytes(content)
        with pytest.raises(DamagedArtefact, match=rf"{path.name} .*delete it and run the same"):
            store.load(images[0])
    path.unlink()
    assert filled(store, images) == [images[0]]
    assert path.read_bytes() == whole


def test_windows_of_another_method_are_refused(tmp_path, images, store):
    other = WindowStore(tmp_path, Corners(key="4567"))
    filled(other, images[:1])
    store.folder.mkdir(parents=True)
    store.path_for(images[0]).write_bytes(other.path_for(images[0]).read_bytes())
    with pytest.raises(DamagedArtefact, match="has another key"):
        store.load(images[0])


def test_a_partial_file_of_a_killed_run_is_no_result(store, images):
    path = store.path_for(images[0])
    path.parent.mkdir(parents=True)
    (path.parent / f".{path.name}.abc.part").write_bytes(b"half")
    assert store.missing(images) == images
    list(store.compute(images))
    assert store.load(images[0]).shape == (2, 4)


def test_killed_and_started_again_ends_with_the_same_bytes(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(8)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (60, 60, 3), dtype=np.uint8)).save(path)
    program = (
        "import sys; from joblib import Parallel\n"
        "from proposals import SelectiveSearch, WindowStore\n"
        "pool = Parallel(2, return_as='generator_unordered')\n"
        "store = WindowStore(sys.argv[1], SelectiveSearch())\n"
        "for done, _ in store.compute(sys.argv[2:], pool): print(done, flush=True)\n"
    )
    arguments = [sys.executable, "-c", program, tmp_path / "killed", *paths]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.killpg(process.pid, signal.SIGKILL)
    killed = WindowStore(tmp_path / "killed", SelectiveSearch())
    assert len(killed.missing(paths)) < 8
    list(killed.compute(paths))
    whole = WindowStore(tmp_path / "whole", SelectiveSearch())
    list(whole.compute(paths))
    assert len(files_of(whole)) == 8
    assert files_of(killed) == files_of(whole)


def test_the_library_does_not_need_tqdm_or_torch():
    program = (
        "import sys; sys.modules['tqdm'] = sys.modules['torch'] = None\n"
        "import proposals\n"
        "assert 'cv2' not in sys.modules and 'detection' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
