"""The two tasks as one interface: images, the choice of C, what is measured, what a view gains."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from classification.transfer.caltech101 import (
    ClassFolders,
    accuracies,
    draw_split,
    one_vs_rest,
    read_class_folders,
)
from classification.transfer.svms import best_C, svm_scores
from classification.transfer.voc07 import bootstrap_gain, held_back, image_labels, mean_ap
from detection.data.voc import read_voc
from detection.settings.ranges import require


@dataclass(frozen=True)
class VocData:
    """Images in VOC's layout.

    Attributes:
        root: folder of Annotations, JPEGImages and ImageSets, or the VOCdevkit above it.
        train_split: list in ImageSets/Main to train on.
        test_split: list to test on.
        cache: folder for features.
    """

    root: str = "data/VOCdevkit"
    train_split: str = "trainval"
    test_split: str = "test"
    cache: str = "data/cache"


@dataclass(frozen=True)
class CaltechData:
    """Images in a folder a class.

    Attributes:
        root: folder of folders, or the one that holds 101_ObjectCategories.
        train_images: of a class.
        test_images: of a class, at most.
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


@dataclass(frozen=True)
class Outcome:
    """What was measured.

    Attributes:
        metrics: by name, as they stand in tables.
        arrays: what gains are measured on, and what is kept.
    """

    metrics: dict[str, float]
    arrays: dict[str, NDArray]


class Task(Protocol):
    """What is common to both.

    Attributes:
        name: in tables.
        paths: images, all that take part.
        unreadable: by id or path, why images are left out.
        facts: columns ``train`` and ``test`` of tables.
    """

    name: str
    paths: Sequence[Path]
    unreadable: dict[str, str]
    facts: dict[str, Any]

    def leave_out(self, rows: dict[int, str]) -> None:
        """Images of ``paths`` that cannot be read take no part; why not, by place."""

    def choose(self, gram: NDArray) -> tuple[float, float]:
        """C, and what it measures on training images held back; no test image takes part."""

    def evaluate(self, gram: NDArray, C: float) -> Outcome:
        """Train and test."""

    def gain(self, before: Outcome, after: Outcome) -> dict[str, float]:
        """What the second gains over the first, and the range it is in; ends of metrics' names."""


class Voc07:
    """VOC 2007 classification.

    Args:
        data: the images.
        seed: of the held-back images and of the bootstrap.
        limit: use the first so many images of each list.
        training_only: leave the test images alone.
    """

    name = "voc07"

    def __init__(
        self, data: VocData, seed: int = 0, limit: int | None = None, *, training_only: bool = False
    ) -> None:
        train = read_voc(data.root, data.train_split, limit=limit)
        self.classes = train.classes
        records, self.unreadable = list(train.records), dict(train.unreadable)
        self._train_count = len(records)
        if not training_only:
            test = read_voc(data.root, data.test_split, train.classes, limit=limit)
            records += test.records
            self.unreadable |= test.unreadable
        self._seed = seed
        self._ids = [record.image_id for record in records]
        self.paths: Sequence[Path] = [record.path for record in records]
        self._labels = image_labels(records, len(self.classes))
        self._readable = np.ones(len(records), bool)
        cut = f":{limit}" if limit else ""
        self.facts = {"train": data.train_split + cut, "test": data.test_split + cut}

    def leave_out(self, rows: dict[int, str]) -> None:
        """As ``Task``."""
        self._readable[list(rows)] = False
        self.unreadable |= {self._ids[row]: sentence for row, sentence in rows.items()}

    def _rows(self, *, train: bool) -> NDArray[np.int64]:
        rows = np.flatnonzero(self._readable)
        return rows[(rows < self._train_count) == train]

    def choose(self, gram: NDArray) -> tuple[float, float]:
        """As ``Task``; mAP on a third of the training images."""
        rows = self._rows(train=True)
        learn, rest = (rows[part] for part in held_back(len(rows), self._seed))
        # A class may have all its few images on one side.
        known = [set(of.tolist()) >= {-1, 1} for of in self._labels[learn].T]
        targets = self._labels[:, known]
        if not (targets[rest] > 0).any():
            raise ValueError(
                f"the {len(rows)} training images are too few to hold some back; give --C"
            )
        names = [name for name, here in zip(self.classes, known, strict=True) if here]

        def measure(C: float) -> float:
            return mean_ap(svm_scores(gram, learn, rest, targets, C, names), targets[rest])

        return best_C(measure)

    def evaluate(self, gram: NDArray, C: float) -> Outcome:
        """As ``Task``."""
        train, test = self._rows(train=True), self._rows(train=False)
        labels = self._labels[test]
        scores = svm_scores(gram, train, test, self._labels, C, self.classes)
        return Outcome({"mAP": mean_ap(scores, labels)}, {"scores": scores, "labels": labels})

    def gain(self, before: Outcome, after: Outcome) -> dict[str, float]:
        """As ``Task``; the range is 95 % of a paired bootstrap over the test images."""
        both = before.arrays["scores"], after.arrays["scores"]
        gain, low, high = bootstrap_gain(*both, after.arrays["labels"], self._seed)
        return {"": gain, " low": low, " high": high}


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
        self._labels = found.labels.copy()
        self._data, self._seed = data, seed
        self._split(0)  # to refuse a small class before hours of work
        self.facts = {
            "train": str(data.train_images),
            "test": f"{data.test_images} x {data.splits}",
        }

    def leave_out(self, rows: dict[int, str]) -> None:
        """As ``Task``."""
        self._labels[list(rows)] = -1
        self.unreadable |= {str(self.paths[row]): sentence for row, sentence in rows.items()}

    def _split(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        data, seed = self._data, self._seed * 1000 + number
        return draw_split(self._labels, data.train_images, data.test_images, seed, self.classes)

    def choose(self, gram: NDArray) -> tuple[float, float]:
        """As ``Task``; class accuracy on a third of the first split's training images."""
        rows, _ = self._split(0)
        third = max(self._data.train_images // 3, 1)
        inside = draw_split(
            self._labels[rows], self._data.train_images - third, third, self._seed, self.classes
        )
        learn, rest = (rows[part] for part in inside)
        return best_C(lambda C: self._accuracies(gram, learn, rest, C)[0])

    def evaluate(self, gram: NDArray, C: float) -> Outcome:
        """As ``Task``."""
        splits = [self._split(number) for number in range(self._data.splits)]
        found = np.array([self._accuracies(gram, *split, C) for split in splits])
        mean = found.mean(axis=0)
        deviation = found.std(axis=0, ddof=1) if len(found) > 1 else np.zeros(2)
        names = ("class accuracy", "accuracy")
        metrics: dict[str, float] = {}
        for number, name in enumerate(names):
            metrics |= {name: mean[number], f"{name} deviation": deviation[number]}
        return Outcome(metrics, {"splits": found})

    def _accuracies(
        self, gram: NDArray, train: NDArray[np.int64], test: NDArray[np.int64], C: float
    ) -> tuple[float, float]:
        targets = one_vs_rest(self._labels, len(self.classes))
        scores = svm_scores(gram, train, test, targets, C, self.classes)
        return accuracies(scores.argmax(axis=1), self._labels[test], len(self.classes))

    def gain(self, before: Outcome, after: Outcome) -> dict[str, float]:
        """As ``Task``; of class accuracy, with the deviation of the splits' own gains."""
        gains = (after.arrays["splits"] - before.arrays["splits"])[:, 0]
        deviation = float(gains.std(ddof=1)) if len(gains) > 1 else 0.0
        return {"": float(gains.mean()), " deviation": deviation}
