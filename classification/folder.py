"""Images in a folder a class: ``ROOT/train/CLASS/``, ``ROOT/val/CLASS/``, as torchvision reads."""

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
        root: folder that the names are below.
        names: of the files, ``val/CLASS/IMAGE.jpg``, in the order of classes, then by name.
        labels: ``(N,)`` int64, the number of each image's class.
        classes: K names, by name.
    """

    root: Path
    names: tuple[str, ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def path(self, row: int) -> Path:
        """The file of an image."""
        return self.root / self.names[row]

    def sizes(self) -> list[int]:
        """Bytes of the images' files; 0 of a link that leads nowhere."""
        paths = map(self.path, range(len(self.names)))
        return [path.stat().st_size if path.is_file() else 0 for path in paths]


def read_folder(root: str | Path, split: str, classes: Sequence[str] = ()) -> LabelledImages:
    """The images of a split; none is opened, and files that are no images are passed over.

    Args:
        root: holds a folder of each split.
        split: ``train`` or ``val``.
        classes: of the training, whose numbers the labels are; none takes the split's own.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no class, a class without images, one that ``classes`` lacks, or a name that
            cannot be used, of a class or an image.
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
        ValueError: there is none, or a name cannot be used, of the class or of an image.
    """
    check_class_name(folder.name, str(folder.parent))
    images = images_below(folder)[0]
    if not images:
        raise ValueError(f"{folder} has no images; add some or remove the folder")
    for path in images:
        check_image_id(path.relative_to(folder).as_posix(), str(folder))
    return images


def images_key(root: Path, names: Sequence[str]) -> str:
    """A key of images by their names and bytes.

    Args:
        root: folder that the names are below.
        names: of files.
    """
    return content_key({name: image_digest(root / name) for name in names})


def image_digest(path: Path) -> str:
    """``content_digest`` of an image; empty of a link that leads nowhere."""
    return content_digest(path) if path.is_file() else ""
