"""Files of windows that others made: MATLAB files of the field, ``.npz`` and CSV.

- ``.mat``: cells ``images`` (names) and ``boxes`` (``[y1 x1 y2 x2]``, 1-based, inclusive), as
  Uijlings' SelectiveSearchVOC2007*.mat and Girshick's selective_search_data/voc_2007_*.mat are.
- ``.npz``: an array ``(P, 4)`` for each image under its name; ``x1, y1, x2, y2`` in half-open
  pixels, as everywhere here.
- ``.csv``: columns ``image`` (or ``picture``), ``x1, y1, x2, y2`` in any order, the same pixels;
  others are ignored.

A name is an image's id or file name, with or without its subfolders and its ending.
"""

import csv
import io
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from files.image_folders import image_suffixes
from files.text import read_text
from files.writing import kept_by_content

COLUMNS = ("image", "x1", "y1", "x2", "y2")


@dataclass(frozen=True)
class NamedWindows:
    """What a file holds.

    Attributes:
        windows: ``(P, 4)`` float32 of each name, P at least 1.
        with_ending: the names that are these when an image's ending is taken away.
    """

    windows: Mapping[str, NDArray[np.float32]]
    with_ending: Mapping[str, list[str]]

    def of(self, image: str | Path) -> list[str]:
        """The names that an image has in the file: one, none, or more if they cannot be told apart.

        A name with more of the image's folders goes before one with fewer; of names with the same
        folders the image's id goes first, then its file name, then a name of another ending.
        """
        parts = _plain(str(image)).split("/")
        for begin in range(len(parts)):
            name = "/".join(parts[begin:])
            image_id = _without_ending(name)
            for each in (image_id, name):
                if each in self.windows:
                    return [each]
            if image_id in self.with_ending:
                return self.with_ending[image_id]
        return []


@kept_by_content
def read_windows(file: str) -> NamedWindows:
    """Windows of each image of a file, by name.

    Raises:
        ValueError: the file, or the windows of an image, are not what they should be.
    """
    path = Path(file)
    windows: dict[str, NDArray[np.float32]] = {}
    with_ending: dict[str, list[str]] = {}
    for given, rows in READERS[path.suffix.lower()](path):
        name = _plain(given.strip())
        if name in windows:
            raise ValueError(f"{file} names the image {name} twice")
        if not rows.size:
            continue
        if rows.ndim != 2 or rows.shape[1] != 4:
            raise ValueError(f"{file}: windows of {name} must be of shape (P, 4), got {rows.shape}")
        windows[name] = rows
        if (image_id := _without_ending(name)) != name:
            with_ending.setdefault(image_id, []).append(name)
    return NamedWindows(windows, with_ending)


def _plain(name: str) -> str:
    """A name or path with ``/`` between its parts, none before the first, letters composed."""
    parts = unicodedata.normalize("NFC", name).replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", "."))


def _without_ending(name: str) -> str:
    """A name without the ending of an image; what else follows a dot belongs to the name."""
    ending = PurePosixPath(name).suffix
    return name.removesuffix(ending) if ending.lower() in image_suffixes() else name


def _read_mat(file: Path) -> Iterable[tuple[str, NDArray[np.float32]]]:
    from scipy.io import loadmat  # takes a quarter of a second, which few runs need

    try:
        content: dict[str, Any] = loadmat(file, variable_names=["images", "boxes"])
        images, boxes = content["images"].ravel(), content["boxes"].ravel()
        names = [str(np.asarray(name).ravel()[0]) for name in images]
        arrays = [np.asarray(rows, np.float32) for rows in boxes]
    except Exception as error:  # SciPy raises whatever its parts raise
        raise ValueError(
            f"{file} is not a MATLAB file (up to version 7) with cells 'images' and 'boxes' "
            f"({type(error).__name__}: {error})"
        ) from error
    if len(names) != len(arrays):
        raise ValueError(f"{file} has {len(names)} images and windows of {len(arrays)}")
    shift = np.array([1, 1, 0, 0], np.float32)
    for name, rows in zip(names, arrays, strict=True):
        whole = rows.ndim == 2 and rows.shape[1] == 4
        yield name, rows[:, [1, 0, 3, 2]] - shift if whole else rows


def _read_npz(file: Path) -> Iterable[tuple[str, NDArray[np.float32]]]:
    try:
        # Of a name NumPy leaves the file open where it is none of its own.
        with file.open("rb") as content, np.load(content, allow_pickle=False) as arrays:
            return [(name, np.asarray(arrays[name], np.float32)) for name in arrays.files]
    except Exception as error:  # NumPy raises whatever the archive and its own format raise
        raise ValueError(f"{file} is not a .npz of arrays (P, 4): {error}") from error


def _read_csv(file: Path) -> Iterable[tuple[str, NDArray[np.float32]]]:
    found: dict[str, list[list[float]]] = {}
    rows = csv.DictReader(io.StringIO(read_text(file), newline=""), skipinitialspace=True)
    try:
        rows.fieldnames = ["image" if n == "picture" else n for n in rows.fieldnames or ()]
        if not set(COLUMNS) <= set(rows.fieldnames or ()):
            raise ValueError(f"needs the columns {', '.join(COLUMNS)}, got {rows.fieldnames}")
        for row in rows:
            if not row["image"]:
                raise ValueError("names no image")
            if any(field.strip() for field in row.get(None) or ()):
                raise ValueError("has more fields than the header; quote a name with a comma")
            window = [float(row[name] or "") for name in COLUMNS[1:]]
            found.setdefault(row["image"], []).append(window)
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{file}, line {rows.line_num}: {error}") from error
    return [(name, np.array(windows, np.float32)) for name, windows in found.items()]


READERS = {".mat": _read_mat, ".npz": _read_npz, ".csv": _read_csv}
