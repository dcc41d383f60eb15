"""Windows that were made elsewhere, given to each image and checked against it."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from files.images import image_size
from files.names import content_key
from files.writing import content_digest
from proposals.window_files import READERS, read_windows

# Windows may end so many pixels outside their image, as those counted from 1 do.
SLACK = 1.0
# How columns are mistaken, and windows as they were meant.
MISTAKEN = {
    "with x and y exchanged": lambda rows: rows[:, [1, 0, 3, 2]],
    "as x1, x2, y1, y2": lambda rows: rows[:, [0, 2, 1, 3]],
    "as x, y, width, height": lambda rows: np.hstack([rows[:, :2], rows[:, :2] + rows[:, 2:]]),
}


def name_of_file(file: str | Path) -> str:
    """What windows of a file are called in tables."""
    return f"file_{Path(file).stem}"


class ImportedWindows:
    """The windows of a file; reads like a ``WindowStore`` and is its own method.

    Args:
        file: a .mat, .npz or .csv (``proposals/window_files.py`` says what they hold).

    Raises:
        FileNotFoundError: no such file.
        ValueError: another ending.
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

        What lies up to SLACK pixels outside the image is cut away.

        Raises:
            FileNotFoundError, UnreadableImage: the image cannot be opened.
            ValueError: the file has no windows of it, or several, or they do not fit it, or it is
                not what it should be.
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
        """Look at the start whether each image has windows of its own that fit it.

        Raises:
            FileNotFoundError, UnreadableImage: an image cannot be opened.
            ValueError: images have none, two have the same ones, or as ``load``.
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
        """There are no windows of an image without a name.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"{self.file} has windows for its own images only; use another --proposals.method for "
            "new images"
        )


def fitted(rows: NDArray, size: tuple[int, int]) -> NDArray[np.float32]:
    """Windows ``(P, 4)`` as float32, cut to their image.

    Args:
        rows: ``(P, 4)`` half-open ``x1, y1, x2, y2``, P at least 1.
        size: the image's (height, width).

    Raises:
        ValueError: one is not finite, has no area, or lies more than SLACK outside; or all lie
            within 0..1. The message continues "the windows of an image".
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
    """Which windows ``(P, 4)`` have an area in an image and end at most SLACK outside."""
    ends = np.array([size[1], size[0]] * 2)
    inside = ((rows >= -SLACK) & (rows <= ends + SLACK)).all(axis=1)
    cut = rows.clip(0, ends)
    return np.asarray(inside & (cut[:, :2] < cut[:, 2:]).all(axis=1))
