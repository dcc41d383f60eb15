"""Windows from a file made elsewhere, matched to images and checked against their sizes."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from files.images import image_size
from files.names import content_key
from files.writing import content_digest
from proposals.window_files import READERS, read_windows

# Windows may end this many pixels outside their image, as with coordinates counted from 1.
SLACK = 1.0
# Common mistakes in the order of columns, and the function that corrects each.
MISTAKEN = {
    "with x and y exchanged": lambda rows: rows[:, [1, 0, 3, 2]],
    "as x1, x2, y1, y2": lambda rows: rows[:, [0, 2, 1, 3]],
    "as x, y, width, height": lambda rows: np.hstack([rows[:, :2], rows[:, :2] + rows[:, 2:]]),
}


def name_of_file(file: str | Path) -> str:
    """Name of a file's windows in tables."""
    return f"file_{Path(file).stem}"


class ImportedWindows:
    """The windows of a file, with the interface of a ``WindowStore``; it is its own method.

    Args:
        file: a .mat, .npz or .csv (formats: ``proposals/window_files.py``).

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file has another extension.
    """

    def __init__(self, file: str | Path) -> None:
        self.file = Path(file)
        if not self.file.is_file():
            raise FileNotFoundError(f"no windows at {file}")
        if self.file.suffix.lower() not in READERS:
            raise ValueError(
                f"windows are read from {', '.join(READERS)} files, got {file}; the formats are "
                "described in proposals/window_files.py"
            )
        self.method = self

    @property
    def name(self) -> str:
        """For tables."""
        return name_of_file(self.file)

    @property
    def key(self) -> str:
        """16 digits that change with the file's bytes."""
        return content_key({"method": "file", "bytes": content_digest(self.file)})

    def load(self, image: str | Path) -> NDArray[np.float32]:
        """Windows ``(P, 4)`` float32 of the image at a path, in the file's order.

        Windows up to SLACK pixels outside the image are clipped to it.

        Raises:
            FileNotFoundError, UnreadableImage: the image cannot be opened.
            ValueError: the file is invalid, has no windows of this image or has them under several
                names, or its windows do not fit the image.
        """
        content = read_windows(str(self.file))
        names = content.of(image)
        if not names:
            raise ValueError(f"{self.file} has no windows of {image}")
        if len(names) > 1:
            raise ValueError(
                f"{self.file} has windows of {image} under several names ({', '.join(names)}); "
                "name each image there with its own ending"
            )
        size = image_size(image)
        try:
            return fitted(content.windows[names[0]], size)
        except ValueError as error:
            raise ValueError(f"{self.file}: the windows of {names[0]} {error}") from error

    def require(self, images: Iterable[str | Path]) -> None:
        """Check, before any work starts, that each image has its own windows, which fit it.

        Raises:
            FileNotFoundError, UnreadableImage: an image cannot be opened.
            ValueError: an image has no windows, two images have the same, or see ``load``.
        """
        paths = list(dict.fromkeys(map(Path, images)))
        content = read_windows(str(self.file))
        missing = [str(path) for path in paths if not content.of(path)]
        if missing:
            raise ValueError(
                f"{self.file} has no windows of {len(missing)} of {len(paths)} images: "
                f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}"
            )
        owners: dict[str, Path] = {}
        for path in paths:
            self.load(path)
            (name,) = content.of(path)
            if owners.setdefault(name, path) != path:
                raise ValueError(
                    f"{self.file} has windows of {name}, which may be {owners[name]} or {path}; "
                    "name the images there with their folders"
                )

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Always fails: without a name, an image has no windows in the file.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"{self.file} has windows for its own images only; use another --proposals.method for "
            "new images"
        )


def fitted(rows: NDArray, size: tuple[int, int]) -> NDArray[np.float32]:
    """Windows ``(P, 4)`` as float32, clipped to their image.

    Args:
        rows: ``(P, 4)`` half-open ``x1, y1, x2, y2``, P at least 1.
        size: the image's (height, width).

    Raises:
        ValueError: a window is not finite, has no area, or ends more than SLACK outside; or all
            windows are within 0..1. The caller begins the message with the windows' name.
    """
    height, width = size
    if not np.isfinite(rows).all():
        raise ValueError("are not all finite numbers")
    wrong = len(rows) - np.count_nonzero(_fit(rows, size))
    if wrong:
        likely = [name for name, meant in MISTAKEN.items() if _fit(meant(rows), size).all()]
        hint = f"{likely[0]} all would fit" if likely else "are they of a copy of another size?"
        raise ValueError(
            f"must be x1 < x2, y1 < y2, inside its {width}x{height} pixels, which {wrong} of "
            f"{len(rows)} are not; {hint}"
        )
    if rows.max() <= 1 < min(size):
        raise ValueError("all lie within 0..1; write them in pixels, not as shares of the sides")
    return np.ascontiguousarray(rows.clip(0, [width, height] * 2), np.float32)


def _fit(rows: NDArray, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Which windows ``(P, 4)`` have an area inside the image and end at most SLACK outside."""
    ends = np.array([size[1], size[0]] * 2)
    inside = ((rows >= -SLACK) & (rows <= ends + SLACK)).all(axis=1)
    cut = rows.clip(0, ends)
    return np.asarray(inside & (cut[:, :2] < cut[:, 2:]).all(axis=1))
