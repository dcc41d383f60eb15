"""Images with a folder per class: ``ROOT/train/CLASS/``, ``ROOT/val/CLASS/``, as in torchvision."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from files.image_folders import images_below
from files.names import check_class_name, check_image_id, content_key, folded
from files.writing import content_digest


@dataclass(frozen=True)
class LabelledImages:
    """The images of one split.

    Attributes:
        root: folder to which the names are relative.
        names: of the files, such as ``val/CLASS/IMAGE.jpg``, sorted by class, then by name.
        labels: ``(N,)`` int64, index of each image's class.
        classes: K names, sorted.
    """

    root: Path
    names: tuple[str, ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def path(self, row: int) -> Path:
        """The file of an image."""
        return self.root / self.names[row]

    def sizes(self) -> list[int]:
        """Bytes of the images' files; 0 for a broken link."""
        paths = map(self.path, range(len(self.names)))
        return [path.stat().st_size if path.is_file() else 0 for path in paths]


def read_folder(root: str | Path, split: str, classes: Sequence[str] = ()) -> LabelledImages:
    """The images of a split, which are not opened; other files are ignored.

    Args:
        root: folder with a subfolder for each split.
        split: ``train`` or ``val``.
        classes: of the training, which the labels index; empty: the split's own classes.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: there is no class, a class has no images or is not in ``classes``, or the name
            of a class or image is invalid.
    """
    root = Path(root)
    folder = root / split
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no folder {folder} ({folder.absolute()}); expected {split}/CLASS/ with the images of "
            "each class in --data.root"
        )
    found = sorted(
        path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    if not found:
        raise ValueError(f"{folder} has no folders; expected one folder of images per class")
    classes = tuple(classes) or tuple(found)
    if unknown := set(found) - set(classes):
        name = min(unknown)
        alike = [repr(other) for other in classes if folded(other) == folded(name)]
        raise ValueError(
            f"{folder} has the class {name}, which the training lacks; remove it, or give it "
            f"images in {root / 'train'} and train again"
            + (f"; or is it {' or '.join(alike)}?" if alike else "")
        )
    names: list[str] = []
    labels: list[int] = []
    for name in found:
        images = images_of_class(folder / name)
        names += [path.relative_to(root).as_posix() for path in images]
        labels += [classes.index(name)] * len(images)
    return LabelledImages(root, tuple(names), np.array(labels, np.int64), classes)


def images_of_class(folder: Path) -> list[Path]:
    """The images in a class's folder and its subfolders.

    Raises:
        ValueError: there are no images, or the name of the class or an image is invalid.
    """
    check_class_name(folder.name, str(folder.parent))
    images = images_below(folder)[0]
    if not images:
        raise ValueError(f"{folder} has no images; add some or remove the folder")
    for path in images:
        check_image_id(path.relative_to(folder).as_posix(), str(folder))
    return images


def images_key(root: Path, names: Sequence[str]) -> str:
    """A key for images, from their names and bytes.

    Args:
        root: folder to which the names are relative.
        names: of files.
    """
    return content_key({name: image_digest(root / name) for name in names})


def image_digest(path: Path) -> str:
    """``content_digest`` of an image; empty for a broken link."""
    return content_digest(path) if path.is_file() else ""
