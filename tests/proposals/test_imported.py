"""Imported windows: three formats give the same windows; errors name the fault."""

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from files.images import UnreadableImage
from proposals.imported import ImportedWindows, fitted

# Half-open pixels: a box that OpenCV would call (x 2, y 3, width 7, height 20), and two more.
WINDOWS = {
    "000005": np.array([[2, 3, 9, 23], [0, 0, 1, 1]], np.float32),
    "000007": np.array([[10, 20, 30, 40]], np.float32),
}
ENDINGS = (".mat", ".npz", ".csv")


def cell(values):
    made = np.empty((1, len(values)), object)
    made[0, :] = values
    return made


def write_mat(path, windows):
    # [y1 x1 y2 x2] of the first and last pixels, counted from 1.
    first = np.array([1, 1, 0, 0])
    boxes = [(each + first)[:, [1, 0, 3, 2]] for each in windows.values()]
    savemat(path, {"images": cell(list(windows)), "boxes": cell(boxes)})


def write_csv(path, windows, encoding="utf-8"):
    lines = ["score,y1,x1,y2,x2,image"]
    for name, rows in windows.items():
        lines += [f'0.5,{y1},{x1},{y2},{x2},"{name}"' for x1, y1, x2, y2 in rows]
    path.write_text("\n".join(lines) + "\n", encoding=encoding)


def write(path, windows):
    """Write the windows in the format of the file's ending, and return ImportedWindows."""
    if path.suffix == ".npz":
        np.savez(path, **windows)
    else:
        {".mat": write_mat, ".csv": write_csv}[path.suffix](path, windows)
    return ImportedWindows(path)


@pytest.fixture
def images(tmp_path):
    """Return a function that writes images of 40x50 pixels below JPEGImages; it returns paths."""

    def make(*names, size=(40, 50)):
        paths = [tmp_path / "data.v1/JPEGImages" / name for name in names]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.zeros((*size, 3), np.uint8)).save(path)
        return paths

    return make


@pytest.mark.parametrize("ending", ENDINGS)
def test_formats(tmp_path, images, ending):
    windows = write(tmp_path / f"windows{ending}", WINDOWS)
    paths = images("000005.jpg", "000007.jpg", "000009.jpg")
    for path, expected in zip(paths, WINDOWS.values(), strict=False):
        found = windows.load(path)
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, expected)
    windows.require(paths[:2])
    assert windows.name == "file_windows"
    assert windows.method is windows
    with pytest.raises(ValueError, match=r"has no windows of .*000009\.jpg"):
        windows.load(paths[2])
    with pytest.raises(ValueError, match="for its own images only"):
        windows(np.zeros((4, 4, 3), np.uint8))


def numbered(*names):
    """Return a different window for each name."""
    return {name: np.array([[n, n, n + 9.0, n + 9]]) for n, name in enumerate(names)}


NAMES = ("a.rf.1", "a.rf.2", "a", "sub/a.rf.1", "sub.v2/a", "IMG 1", "猫 & dog?")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("written", ["{}", "{}.jpg", "{}.PNG", "JPEGImages/{}.jpg", "./{}"])
def test_names_with_dots_and_subfolders(tmp_path, images, ending, written):
    windows = write(tmp_path / f"w{ending}", numbered(*(written.format(name) for name in NAMES)))
    paths = images(*(f"{name}.jpg" for name in NAMES))
    windows.require(paths)
    for number, path in enumerate(paths):
        assert windows.load(path)[0, 0] == number


def test_names_of_windows_own_paths(tmp_path, images):
    windows = write(tmp_path / "w.csv", numbered("C:\\data.v1\\JPEGImages\\b.jpg", "sub\\b.jpg"))
    (path,) = images("sub/b.jpg")
    assert windows.load(path)[0, 0] == 1


def test_letters_composed_or_not_are_the_same(tmp_path, images):
    windows = write(tmp_path / "w.csv", numbered("Gro\u0308ße"))
    windows.require(images("Gr\u00f6ße.jpg"))


def test_an_id_goes_before_a_file_name(tmp_path, images):
    windows = write(tmp_path / "w.npz", numbered("a", "a.jpg", "sub/a.png"))
    paths = images("a.jpg", "a.jpg.jpg", "sub/a.jpg")
    windows.require(paths)
    assert [windows.load(path)[0, 0] for path in paths] == [0, 1, 2]


def test_names_that_cannot_be_distinguished_are_refused(tmp_path, images):
    windows = write(tmp_path / "w.npz", numbered("a.jpg", "a.png", "b"))
    assert windows.load(*images("a.png"))[0, 0] == 1
    with pytest.raises(ValueError, match=r"a\.bmp under several names \(a\.jpg, a\.png\)"):
        windows.load(*images("a.bmp"))
    paths = images("one/b.jpg", "two/b.jpg")
    with pytest.raises(ValueError, match=r"windows of b, which may be .*one/b\.jpg or .*two/b"):
        windows.require(paths)


def test_a_name_twice_is_refused(tmp_path, images):
    write_mat(tmp_path / "w.mat", numbered("sub/a", "./sub/a"))
    with pytest.raises(ValueError, match=r"w\.mat names the image sub/a twice"):
        ImportedWindows(tmp_path / "w.mat").load(*images("sub/a.jpg"))


def test_missing_images_are_counted_at_the_start(tmp_path, images):
    windows = write(tmp_path / "w.npz", {**numbered("a", "b"), "c": np.zeros((0, 4))})
    windows.require(images("a.jpg", "b.jpg"))
    paths = images("a.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg")
    with pytest.raises(
        ValueError, match=r"no windows of 4 of 5 images: .*c\.jpg, .*d\.jpg, .*e"
    ) as e:
        windows.require(paths)
    assert "f.jpg" not in str(e.value)


def test_an_image_that_cannot_be_opened_is_named(tmp_path, images):
    windows = write(tmp_path / "w.npz", numbered("a"))
    (path,) = images("a.jpg")
    path.write_bytes(b"none")
    with pytest.raises(UnreadableImage, match=r"a\.jpg"):
        windows.load(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_of_a_csv(tmp_path, images, encoding):
    write_csv(tmp_path / "w.csv", numbered("a", "猫"), encoding)
    ImportedWindows(tmp_path / "w.csv").require(images("a.jpg", "猫.jpg"))


def test_a_csv_of_image_first_with_a_mark(tmp_path, images):
    text = "picture, x1, y1, x2, y2\r\na.rf.1, 1, 2, 3, 4\r\n"
    (tmp_path / "w.csv").write_bytes(text.encode("utf-8-sig"))
    found = ImportedWindows(tmp_path / "w.csv").load(*images("a.rf.1.jpg"))
    np.testing.assert_array_equal(found, [[1, 2, 3, 4]])


@pytest.mark.parametrize("ending", [".npz", ".mat"])
def test_order_in_memory_does_not_matter(tmp_path, images, ending):
    rows = np.array([[2, 3, 9, 23], [0, 0, 50, 40], [5, 6, 7, 8.0]])
    windows = write(tmp_path / f"w{ending}", {"a": np.asfortranarray(rows)})
    found = windows.load(*images("a.jpg"))
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, rows)


SIZE = (40, 50)
INSIDE = np.array([[0, 0, 50, 40], [30, 5, 50, 20.0], [5, 6, 7, 8]])


def test_up_to_a_pixel_outside_is_cut():
    np.testing.assert_array_equal(fitted(INSIDE, SIZE), INSIDE)
    np.testing.assert_array_equal(fitted(INSIDE - [0.5, 1, -1, -0.25], SIZE)[0], INSIDE[0])


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (INSIDE[:, [1, 0, 3, 2]], "which 2 of 3 are not; with x and y exchanged all would fit"),
        (INSIDE[:, [0, 2, 1, 3]], "which 2 of 3 are not; as x1, x2, y1, y2 all would fit"),
        (np.array([[0, 0, 50, 40], [30, 5, 20, 15]]), "as x, y, width, height all would fit"),
        (2 * INSIDE, "inside its 50x40 pixels, which 2 of 3 are not; are they of a copy"),
        (INSIDE - [1.5, 0, 0, 0], "which 1 of 3 are not"),
        (np.array([[-1, 0, 0, 5.0]]), "which 1 of 1 are not"),
        (np.array([[50, 0, 51, 5.0]]), "which 1 of 1 are not"),
        (np.array([[5, 5, 5, 9.0]]), "which 1 of 1 are not"),
        (INSIDE * [np.nan, 1, 1, 1], "are not all finite numbers"),
        (INSIDE - [0, 0, np.inf, 0], "are not all finite numbers"),
        (INSIDE / [50, 40, 50, 40], r"all lie within 0\.\.1; write them in pixels"),
    ],
)
def test_windows_that_do_not_fit_their_image(rows, words):
    with pytest.raises(ValueError, match=words):
        fitted(rows, SIZE)


@pytest.mark.parametrize("ending", ENDINGS)
def test_exchanged_columns_are_noticed_at_the_start(tmp_path, images, ending):
    windows = write(tmp_path / f"w{ending}", {"a": INSIDE[:, [1, 0, 3, 2]]})
    paths = images("a.jpg")
    for call in (lambda: windows.load(paths[0]), lambda: windows.require(paths)):
        with pytest.raises(ValueError, match=rf"w\{ending}: the windows of a .*x and y exchanged"):
            call()


def test_the_key_follows_the_bytes(tmp_path):
    one, two = tmp_path / "one.npz", tmp_path / "two.npz"
    np.savez(one, **WINDOWS)
    two.write_bytes(one.read_bytes())
    assert ImportedWindows(one).key == ImportedWindows(two).key
    np.savez(two, other=WINDOWS["000005"])
    assert ImportedWindows(one).key != ImportedWindows(two).key


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.mat", b"no matlab", "is not a MATLAB file"),
        ("a.mat", b"", "is not a MATLAB file"),
        ("a.mat", b"MATLAB 5.0 MAT-file" + b" " * 200, "is not a MATLAB file"),
        ("a.npz", b"no archive", r"is not a .npz of arrays"),
        ("a.npz", b"", r"is not a .npz of arrays"),
        ("a.npz", b"PK\x03\x04" + bytes(99), r"is not a .npz of arrays"),
        ("a.csv", b"", "needs the columns image, x1, y1, x2, y2"),
        ("a.csv", b"image,x1,y1\n", "needs the columns image, x1, y1, x2, y2"),
        ("a.csv", b"image,x1,y1,x2,y2\na,1,2,3,four\n", "line 2: could not convert"),
        ("a.csv", b"image,x1,y1,x2,y2\na,1,2,3\n", "line 2: "),
        ("a.csv", b"image,x1,y1,x2,y2\n,1,2,3,4\n", "line 2: names no image"),
        ("a.csv", b"image,x1,y1,x2,y2\na,b,1,2,3,4\n", "line 2: has more fields than the header"),
        ("a.csv", b"image,x1,y1,x2,y2\na" + b"a" * 200_000, "line 1: field larger than"),
        ("a.csv", b"image,x1,y1,x2,y2\na,5,2,3,4\n", "the windows of a must be x1 < x2"),
        ("a.csv", b"image,x1,y1,x2,y2\na,nan,2,3,4\n", "the windows of a are not all finite"),
        ("a.csv", "image,x1,y1,x2,y2\nß,1,2,3,4\n".encode("latin-1"), "save it as UTF-8"),
    ],
)
def test_damaged_files(tmp_path, images, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as error:
        ImportedWindows(path).load(*images("a.jpg"))
    assert str(path) in str(error.value)


def refusal(windows, image, default):
    try:
        windows.load(image)
    except ValueError as error:
        return str(error)
    return default  # not every byte of an archive is read


@pytest.mark.parametrize("ending", [".mat", ".npz"])
def test_a_damaged_archive_is_no_traceback(tmp_path, images, ending):
    path = tmp_path / f"whole{ending}"
    write(path, {"a": INSIDE})
    (image,) = images("a.jpg")
    content = path.read_bytes()
    for number, place in enumerate(range(0, len(content), 7)):
        damaged = tmp_path / f"{number}{ending}"
        for bad in (content[:place], content[:place] + b"\xa5" + content[place + 1 :]):
            damaged.write_bytes(bad)
            assert str(damaged) in refusal(ImportedWindows(damaged), image, default=str(damaged))


@pytest.mark.parametrize(
    ("ending", "shape"),
    [(".mat", (3, 5)), (".mat", (4, 3)), (".npz", (3, 5)), (".npz", (4, 3)), (".npz", (4,))],
)
def test_arrays_of_another_shape(tmp_path, images, ending, shape):
    path = tmp_path / f"a{ending}"
    if ending == ".npz":
        np.savez(path, a=np.ones(shape))
    else:
        savemat(path, {"images": cell(["a"]), "boxes": cell([np.ones(shape)])})
    with pytest.raises(ValueError, match=r"windows of a must be of shape \(P, 4\), got \("):
        ImportedWindows(path).load(*images("a.jpg"))


def test_cells_of_unequal_length(tmp_path, images):
    boxes = cell([np.ones((1, 4))])
    savemat(tmp_path / "a.mat", {"images": cell(["a", "b"]), "boxes": boxes})
    with pytest.raises(ValueError, match="has 2 images and windows of 1"):
        ImportedWindows(tmp_path / "a.mat").load(*images("a.jpg"))


def test_files_that_are_not_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="no windows at"):
        ImportedWindows(tmp_path / "none.mat")
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(ValueError, match=r"from \.mat, \.npz, \.csv files, got"):
        ImportedWindows(tmp_path / "a.json")
    (tmp_path / "a.CSV").write_text("")
    ImportedWindows(tmp_path / "a.CSV")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_changed_file_has_its_new_windows(tmp_path, images, ending):
    """The new file is read in the same process, and the key changes, too."""
    (image,) = images("a.jpg")
    path, keys = tmp_path / f"windows{ending}", set()
    for rows in ([[1, 2, 3, 4]], [[5, 6, 7, 8], [1, 1, 9, 9]]):
        windows = write(path, {"a": np.array(rows, np.float32)})
        np.testing.assert_array_equal(windows.load(image), rows)
        keys.add(windows.key)
    assert len(keys) == 2
