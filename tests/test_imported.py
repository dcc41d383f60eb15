"""Windows from files of others: the three formats say the same, and damage is named."""

import numpy as np
import pytest
from scipy.io import savemat

from proposals.imported import ImportedWindows, read_windows

# Half-open pixels: a box that OpenCV would call (x 2, y 3, width 7, height 20), and two more.
WINDOWS = {
    "000005": np.array([[2, 3, 9, 23], [0, 0, 1, 1]], np.float32),
    "000007": np.array([[10, 20, 30, 40]], np.float32),
}


def cell(values):
    made = np.empty((1, len(values)), object)
    made[0, :] = values
    return made


def write_mat(path, windows=WINDOWS):
    # [y1 x1 y2 x2] of the first and last pixels, counted from 1.
    first = np.array([1, 1, 0, 0])
    boxes = [(each + first)[:, [1, 0, 3, 2]] for each in windows.values()]
    savemat(path, {"images": cell(list(windows)), "boxes": cell(boxes)})


def write_csv(path):
    lines = ["score,y1,x1,y2,x2,picture"]
    for name, windows in WINDOWS.items():
        lines += [f"0.5,{y1},{x1},{y2},{x2},{name}" for x1, y1, x2, y2 in windows]
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("ending", [".mat", ".npz", ".csv"])
def test_formats(tmp_path, ending):
    path = tmp_path / f"windows{ending}"
    if ending == ".mat":
        write_mat(path)
    elif ending == ".npz":
        np.savez(path, **WINDOWS)
    else:
        write_csv(path)
    windows = ImportedWindows(path)
    for name, expected in WINDOWS.items():
        found = windows.load(f"JPEGImages/{name}.jpg")
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)
    assert windows.name == "file_windows"
    assert windows.method is windows
    with pytest.raises(ValueError, match="has no windows of 000009"):
        windows.load("000009.jpg")
    with pytest.raises(ValueError, match="of its own pictures only"):
        windows(np.zeros((4, 4, 3), np.uint8))


def test_the_key_follows_the_bytes(tmp_path):
    one, two = tmp_path / "one.npz", tmp_path / "two.npz"
    np.savez(one, **WINDOWS)
    two.write_bytes(one.read_bytes())
    assert ImportedWindows(one).key == ImportedWindows(two).key
    np.savez(two, other=WINDOWS["000005"])
    assert ImportedWindows(one).key != ImportedWindows(two).key


def test_names_with_endings(tmp_path):
    write_mat(tmp_path / "windows.mat", {"000005.jpg": WINDOWS["000005"]})
    assert list(read_windows(str(tmp_path / "windows.mat"))) == ["000005"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.mat", b"no matlab", "is not a MATLAB file"),
        ("a.npz", b"no archive", r"is not a .npz of arrays"),
        ("a.csv", b"picture,x1,y1\n", "needs the columns picture, x1, y1, x2, y2"),
        ("a.csv", b"picture,x1,y1,x2,y2\na,1,2,3,four\n", "line 2: could not convert"),
        ("a.csv", b"picture,x1,y1,x2,y2\na,1,2,3\n", "line 2: "),
        ("a.csv", b"picture,x1,y1,x2,y2\na,5,2,3,4\n", "a window of a has no area"),
        ("a.csv", b"picture,x1,y1,x2,y2\na,nan,2,3,4\n", "a window of a has no area"),
    ],
)
def test_damaged_files(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as error:
        ImportedWindows(path).load("a.jpg")
    assert str(path) in str(error.value)


def test_arrays_of_another_shape(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.zeros((3, 5)))
    with pytest.raises(ValueError, match=r"windows of a must be of shape \(P, 4\), got \(3, 5\)"):
        ImportedWindows(tmp_path / "a.npz").load("a.jpg")


def test_cells_of_unequal_length(tmp_path):
    boxes = cell([np.ones((1, 4))])
    savemat(tmp_path / "a.mat", {"images": cell(["a", "b"]), "boxes": boxes})
    with pytest.raises(ValueError, match="has 2 images and windows of 1"):
        ImportedWindows(tmp_path / "a.mat").load("a.jpg")


def test_files_that_are_not_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="no windows at"):
        ImportedWindows(tmp_path / "none.mat")
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(ValueError, match=r"from \.mat, \.npz, \.csv files, got"):
        ImportedWindows(tmp_path / "a.json")
