"""Finds images in folders by the extensions of all formats that Pillow opens."""

import os
from functools import cache
from pathlib import Path
from typing import NoReturn

from PIL import Image

from files.images import NO_IMAGES


@cache
def image_suffixes() -> frozenset[str]:
    """The extensions, in lower case and with their dots, of the formats that Pillow opens."""
    Image.init()
    endings = Image.registered_extensions().items()
    return frozenset(
        ending for ending, form in endings if form in Image.OPEN and form not in NO_IMAGES
    )


def images_below(folder: str | Path) -> tuple[list[Path], int]:
    """The images in a folder and its subfolders, sorted, and the number of other files.

    Images are recognised by their extension. Hidden files do not count as images, such as the
    ``._a.png`` that a Mac writes beside ``a.png``. Links to folders are followed, each folder once.

    Raises:
        OSError: a folder cannot be listed.
    """
    found: list[Path] = []
    others = 0
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        folders.sort()
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        hidden = any(part.startswith(".") for part in Path(place).relative_to(folder).parts)
        images = [] if hidden else [name for name in names if _is_image_name(name)]
        found += [Path(place, name) for name in images]
        others += len(names) - len(images)
    return sorted(found), others


class ImageFinder:
    """Finds the image of an id in a folder, with any extension.

    Args:
        folder: of images; ids may include subfolders.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._listed: dict[Path, dict[str, Path]] = {}

    def find(self, image_id: str) -> Path:
        """``<id>.jpg`` or, if missing, the first, by name, of ``<id>`` with another extension.

        Nothing is removed from the id: ``a.rf.1`` is ``a.rf.1.jpg``, never ``a.rf.jpg``.

        Raises:
            FileNotFoundError: there is no such image; the message has a hint.
        """
        path = self.folder / f"{image_id}.jpg"
        if path.is_file():
            return path
        others = self._images_in(path.parent)
        name = path.name.removesuffix(".jpg")
        if name in others:
            return others[name]
        hint = ""
        if Path(name).suffix.lower() in image_suffixes() and Path(name).stem in others:
            hint = f"; an id has no ending: write '{image_id.removesuffix(Path(name).suffix)}'"
        elif not self.folder.is_dir():
            hint = f"; there is no folder {self.folder}"
        raise FileNotFoundError(
            f"no image of '{image_id}' at {path}, or with another ending that Pillow opens{hint}"
        )

    def _images_in(self, folder: Path) -> dict[str, Path]:
        """The images in a folder by their names without extension; each folder is listed once."""
        if folder not in self._listed:
            paths = folder.iterdir() if folder.is_dir() else ()
            images = [path for path in paths if _is_image_name(path.name) and path.is_file()]
            self._listed[folder] = {path.stem: path for path in sorted(images, reverse=True)}
        return self._listed[folder]


def _raise(error: OSError) -> NoReturn:
    raise error


def _is_image_name(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in image_suffixes()
