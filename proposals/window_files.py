"""Reads windows made elsewhere: published MATLAB files, ``.npz`` and CSV.

- ``.mat``: cells ``images`` (names) and ``boxes`` (``[y1 x1 y2 x2]``, 1-based, inclusive), the
  format of Uijlings' SelectiveSearchVOC2007*.mat and Girshick's
  selective_search_data/voc_2007_*.mat.
- ``.npz``: an array ``(P, 4)`` for each image under its name; ``x1, y1, x2, y2`` in half-open
  pixels, as everywhere in this package.
- ``.csv``: columns ``image`` (or ``picture``), ``x1, y1, x2, y2`` in any order, in half-open
  pixels; other columns are ignored.

A name is an image's id or file name, with or without its subfolders and its extension.
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
    """The content of a file of windows.

    Attributes:
        windows: ``(P, 4)`` float32 of each name, P at least 1.
        with_ending: for each name without its extension, the names with an extension.
    """

    windows: Mapping[str, NDArray[np.float32]]
    with_ending: Mapping[str, list[str]]

    def of(self, image: str | Path) -> list[str]:
        """The names of an image in the file: one, none, or several if the image is ambiguous.

        A name with more of the image's folders has precedence over one with fewer. Among names with
        the same folders, the image's id has precedence, then its file name, then a name with
        another extension.
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
    """The windows in a file, by the images' names.

    Raises:
        ValueError: the file, or the windows of an image, have the wrong format.
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
    """A name or path with ``/`` between its parts, no leading ``/``, and composed letters (NFC)."""
    parts = unicodedata.normalize("NFC", name).replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", "."))


def _without_ending(name: str) -> str:
    """A name without an image's extension; anything else after a dot is part of the name."""
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
        # Opened here: given a path, NumPy leaves the file open if it is not a valid .npz.
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
