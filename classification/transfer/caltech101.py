"""Caltech-101: one class per image, 30 training and up to 50 test images per class (Table 7)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classification.folder import images_of_class
from classification.transfer.judged import JudgedImages, named_by_best
from classification.transfer.svms import best_C, svm_scores
from classification.transfer.task import Outcome
from detection.settings.ranges import require


@dataclass(frozen=True)
class CaltechData:
    """Images in a folder a class.

    Attributes:
        root: folder with one folder per class, or the folder that holds 101_ObjectCategories.
        train_images: number of training images per class.
        test_images: largest number of test images per class.
        splits: number of random splits.
        cache: folder for features.
    """

    root: str = "data/caltech101"
    train_images: int = 30
    test_images: int = 50
    splits: int = 10
    cache: str = "data/cache"

    def __post_init__(self) -> None:
        require(self, train_images=(3, 100_000), test_images=(1, 100_000), splits=(1, 1000))


class Caltech101:
    """Caltech-101: accuracies of random splits.

    Args:
        data: the images.
        seed: of the splits.
    """

    name = "caltech101"

    def __init__(self, data: CaltechData, seed: int = 0) -> None:
        found: ClassFolders = read_class_folders(data.root)
        self.classes = found.classes
        self.paths: Sequence[Path] = found.paths
        self.unreadable: dict[str, str] = {}
        self.labels = found.labels.copy()
        self.data, self._seed = data, seed
        self._split(0)  # refuses a class with too few images before hours of work
        self.facts = {
            "train": str(data.train_images),
            "test": f"{data.test_images} x {data.splits}",
        }

    def leave_out(self, rows: dict[int, str]) -> None:
        """See ``Task``."""
        self.labels[list(rows)] = -1
        self.unreadable |= {str(self.paths[row]): sentence for row, sentence in rows.items()}

    def _split(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        data, seed = self.data, self._seed * 1000 + number
        return draw_split(self.labels, data.train_images, data.test_images, seed, self.classes)

    def choose(self, gram: NDArray) -> tuple[float, float]:
        """See ``Task``; uses the first split."""
        return self._choose(gram, 0)

    def _choose(self, gram: NDArray, number: int) -> tuple[float, float]:
        """C, and its class accuracy on a third of a split's training images."""
        rows, _ = self._split(number)
        third = max(self.data.train_images // 3, 1)
        inside = draw_split(
            self.labels[rows],
            self.data.train_images - third,
            third,
            self._seed * 1000 + number,
            self.classes,
        )
        learn, rest = (rows[part] for part in inside)
        targets = one_vs_rest(self.labels, len(self.classes))

        def measure(C: float) -> float:
            scores = svm_scores(gram, learn, rest, targets, C, self.classes)
            return float(self._measured(scores, rest)[0].mean())

        return best_C(measure)

    def evaluate(self, gram: NDArray, C: float | None) -> Outcome:
        """See ``Task``."""
        targets = one_vs_rest(self.labels, len(self.classes))
        of_class, found, weights = [], [], []
        for number in range(self.data.splits):
            train, test = self._split(number)
            weights.append(self._choose(gram, number)[0] if C is None else C)
            scores = svm_scores(gram, train, test, targets, weights[-1], self.classes)
            classes, images = self._measured(scores, test)
            of_class.append(classes)
            found.append((classes.mean(), images))
            if number == 0:
                judged = JudgedImages(test, scores, targets[test], named_by_best(scores))
        splits = np.array(found)
        of_class_mean = np.mean(of_class, axis=0)
        return Outcome(
            mean_and_deviation(splits), {"splits": splits}, of_class_mean, judged, tuple(weights)
        )

    def _measured(
        self, scores: NDArray[np.float64], rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], float]:
        return accuracies(scores.argmax(axis=1), self.labels[rows], len(self.classes))

    def gain(self, before: Outcome, after: Outcome) -> dict[str, float]:
        """See ``Task``; the gain in class accuracy, with its deviation over splits."""
        gains = (after.arrays["splits"] - before.arrays["splits"])[:, 0]
        deviation = float(gains.std(ddof=1)) if len(gains) > 1 else 0.0
        return {"": float(gains.mean()), " deviation": deviation}


@dataclass(frozen=True)
class ClassFolders:
    """Images by class.

    Attributes:
        paths: of ``n`` images, class by class.
        labels: ``(n,)`` class of each image.
        classes: names of the K classes, sorted.
    """

    paths: tuple[Path, ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]


def read_class_folders(root: str | Path) -> ClassFolders:
    """Images of ``root/CLASS/`` or, if it exists, of ``root/101_ObjectCategories/CLASS/``.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: fewer than two classes; or see ``images_of_class``.
    """
    root = Path(root)
    inner = root / "101_ObjectCategories"
    root = inner if inner.is_dir() else root
    if not root.is_dir():
        raise FileNotFoundError(
            f"no folder {root.absolute()}; give a folder with one folder per class by --data.root"
        )
    folders = sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")
    if len(folders) < 2:
        raise ValueError(f"{root} has {len(folders)} folders; expected two or more, one per class")
    paths: list[Path] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        found = images_of_class(folder)
        paths += found
        labels += [label] * len(found)
    return ClassFolders(tuple(paths), np.array(labels), tuple(each.name for each in folders))


def draw_split(
    labels: NDArray[np.int64], train: int, test: int, seed: int, classes: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sorted rows of training and of test images, drawn at random from each class.

    Args:
        labels: ``(n,)``; below 0 for images that are left out.
        train: number of training images per class.
        test: largest number of test images per class.
        seed: of the split.
        classes: names of the classes, for errors.

    Raises:
        ValueError: a class has no image left for the test.
    """
    generator = np.random.default_rng(seed)
    rows: tuple[list[int], list[int]] = ([], [])
    for label, name in enumerate(classes):
        own = generator.permutation(np.flatnonzero(labels == label))
        if len(own) <= train:
            raise ValueError(
                f"class {name} has {len(own)} images that can be read; the test needs {train} for "
                "training and at least one more: add images, or lower --data.train_images"
            )
        rows[0].extend(own[:train])
        rows[1].extend(own[train : train + test])
    return np.sort(rows[0]), np.sort(rows[1])


def mean_and_deviation(splits: NDArray[np.float64]) -> dict[str, float]:
    """Mean and deviation, over splits, of class accuracy and accuracy ``(splits, 2)``."""
    mean = splits.mean(axis=0)
    deviation = splits.std(axis=0, ddof=1) if len(splits) > 1 else np.zeros(2)
    metrics: dict[str, float] = {}
    for number, name in enumerate(("class accuracy", "accuracy")):
        metrics |= {name: mean[number], f"{name} deviation": deviation[number]}
    return metrics


def one_vs_rest(labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Targets ``(n, K)`` of 1 and -1."""
    return np.where(labels[:, None] == np.arange(classes), 1, -1)


def accuracies(
    predicted: NDArray[np.int64], labels: NDArray[np.int64], classes: int
) -> tuple[NDArray[np.float64], float]:
    """Share of correct images of each class ``(K,)``, and of all images; 0..1."""
    right = predicted == labels
    of_class = [right[labels == label].mean() for label in range(classes)]
    return np.array(of_class), float(right.mean())
