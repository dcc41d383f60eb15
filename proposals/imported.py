"""Windows that were made elsewhere: MATLAB files of the field, ``.npz`` and CSV.

- ``.mat``: cells ``images`` (names) and ``boxes`` (``[y1 x1 y2 x2]``, 1-based, inclusive), as
  Uijlings' SelectiveSearchVOC2007*.mat and Girshick's selective_search_data/voc_2007_*.mat are.
- ``.npz``: an array ``(P, 4)`` for each picture under its name without ending; ``x1, y1, x2, y2``
  in half-open pixels, as everywhere here.
- ``.csv``: columns ``picture, x1, y1, x2, y2`` in any order, the same pixels; others are ignored.

The order of a picture's windows is kept.
"""

import csv
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from proposals.disk import file_digest, key_of

COLUMNS = ("picture", "x1", "y1", "x2", "y2")


class ImportedWindows:
    """The windows of a file; reads like a ``WindowStore`` and is its own method.

    Args:
        file: a .mat, .npz or .csv.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another ending.
    """

    def __init__(self, file: str | Path) -> None:
        self.file = Path(file)
        if not self.file.is_file():
            raise FileNotFoundError(f"no windows at {file}")
        if self.file.suffix not in READERS:
            raise ValueError(
                f"windows are read from {', '.join(READERS)} files, got {file}; the formats are "
                "described in proposals/imported.py"
            )
        self.method = self

    @property
    def name(self) -> str:
        """For tables."""
        return f"file_{self.file.stem}"

    @property
    def key(self) -> str:
        """16 digits that change with the file's bytes."""
        return key_of({"method": "file", "bytes": file_digest(self.file)})

    def load(self, picture: str | Path) -> NDArray[np.float32]:
        """Windows ``(P, 4)`` float32 of a picture, by its name without ending.

        Raises:
            ValueError: the file has none of it, or is not what it should be.
        """
        found = read_windows(str(self.file)).get(Path(picture).stem)
        if found is None or not len(found):
            raise ValueError(f"{self.file} has no windows of {Path(picture).stem}")
        return found

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """There are no windows of an image without a name.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"the windows in {self.file} are of its own pictures only; take another "
            "--proposals.method for new ones"
        )


@lru_cache(maxsize=2)
def read_windows(file: str) -> Mapping[str, NDArray[np.float32]]:
    """Windows of each picture of a file, by name.

    Raises:
        ValueError: the file, or the windows of a picture, are not what they should be.
    """
    found = READERS[Path(file).suffix](Path(file))
    for name, windows in found.items():
        if windows.ndim != 2 or windows.shape[1] != 4:
            raise ValueError(
                f"{file}: windows of {name} must be of shape (P, 4), got {windows.shape}"
            )
        if not (np.isfinite(windows).all() and (windows[:, :2] < windows[:, 2:]).all()):
            raise ValueError(f"{file}: a window of {name} has no area, or is inverted")
    return found


def _read_mat(file: Path) -> dict[str, NDArray[np.float32]]:
    try:
        content = loadmat(file, variable_names=["images", "boxes"])
        images, boxes = content["images"].ravel(), content["boxes"].ravel()
    except (MatReadError, NotImplementedError, ValueError, KeyError) as error:
        raise ValueError(
            f"{file} is not a MATLAB file (up to version 7) with cells 'images' and 'boxes' "
            f"({type(error).__name__}: {error})"
        ) from error
    if len(images) != len(boxes):
        raise ValueError(f"{file} has {len(images)} images and windows of {len(boxes)}")
    shift = np.array([1, 1, 0, 0], np.float32)
    return {
        Path(str(np.asarray(name).ravel()[0])).stem: np.asarray(rows, np.float32)[:, [1, 0, 3, 2]]
        - shift
        for name, rows in zip(images, boxes, strict=True)
        if rows.size
    }


def _read_npz(file: Path) -> dict[str, NDArray[np.float32]]:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: np.asarray(arrays[name], np.float32) for name in arrays.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file} is not a .npz of arrays (P, 4): {error}") from error


def _read_csv(file: Path) -> dict[str, NDArray[np.float32]]:
    found: dict[str, list[list[float]]] = {}
    with file.open(newline="") as lines:
        rows = csv.DictReader(lines)
        if not set(COLUMNS) <= set(rows.fieldnames or ()):
            raise ValueError(f"{file} needs the columns {', '.join(COLUMNS)}: {rows.fieldnames}")
        for row in rows:
            try:
                window = [float(row[name]) for name in COLUMNS[1:]]
            except (TypeError, ValueError) as error:
                raise ValueError(f"{file}, line {rows.line_num}: {error}") from error
            found.setdefault(row["picture"], []).append(window)
    return {name: np.array(windows, np.float32) for name, windows in found.items()}


READERS = {".mat": _read_mat, ".npz": _read_npz, ".csv": _read_csv}
