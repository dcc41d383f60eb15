"""Caltech-101: one class an image, 30 to train and up to 50 to test a class (paper, Table 7)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from files.images import images_below
from files.names import check_class_name


@dataclass(frozen=True)
class ClassFolders:
    """Images by class.

    Attributes:
        paths: ``n`` images, class by class.
        labels: ``(n,)`` class of each.
        classes: names of the K classes, sorted.
    """

    paths: tuple[Path, ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]


def read_class_folders(root: str | Path) -> ClassFolders:
    """Images of ``root/CLASS/``; in a root that holds ``101_ObjectCategories``, of that.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: fewer than two classes, or a class without images.
    """
    root = Path(root)
    inner = root / "101_ObjectCategories"
    root = inner if inner.is_dir() else root
    if not root.is_dir():
        raise FileNotFoundError(
            f"no folder {root.absolute()}; name by --data.root one that holds a folder a class"
        )
    folders = sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")
    if len(folders) < 2:
        raise ValueError(
            f"{root} holds {len(folders)} folders; expected two or more, a folder a class"
        )
    paths: list[Path] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        check_class_name(folder.name, str(root))
        found = images_below(folder)[0]
        if not found:
            raise ValueError(f"{folder} holds no image; put some there or remove the folder")
        paths += found
        labels += [label] * len(found)
    return ClassFolders(tuple(paths), np.array(labels), tuple(each.name for each in folders))


def draw_split(
    labels: NDArray[np.int64], train: int, test: int, seed: int, classes: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to train and to test on, sorted: of each class so many, drawn at random.

    Args:
        labels: ``(n,)``; below 0 for images that do not take part.
        train: images a class.
        test: images a class, at most.
        seed: of the split.
        classes: names of the classes, for errors.

    Raises:
        ValueError: a class has no image left to test on.
    """
    generator = np.random.default_rng(seed)
    rows: tuple[list[int], list[int]] = ([], [])
    for label, name in enumerate(classes):
        own = generator.permutation(np.flatnonzero(labels == label))
        if len(own) <= train:
            raise ValueError(
                f"class {name} has {len(own)} images that can be read; {train} to train on and one "
                "or more to test on were asked for: add some, or set --data.train_images lower"
            )
        rows[0].extend(own[:train])
        rows[1].extend(own[train : train + test])
    return np.sort(rows[0]), np.sort(rows[1])


def one_vs_rest(labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Targets ``(n, K)`` of 1 and -1."""
    return np.where(labels[:, None] == np.arange(classes), 1, -1)


def accuracies(
    predicted: NDArray[np.int64], labels: NDArray[np.int64], classes: int
) -> tuple[float, float]:
    """Mean over classes of the share of right ones, and the share over all images; 0..1."""
    right = predicted == labels
    of_class = [float(right[labels == label].mean()) for label in range(classes)]
    return float(np.mean(of_class)), float(right.mean())
