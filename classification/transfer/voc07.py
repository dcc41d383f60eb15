"""VOC 2007 classification: whether an image has an object of a class (paper, Table 6).

If all of an image's objects of a class are difficult, the image is left out for this class, in
training and in tests. Average precision is at 11 recalls, as for detection.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classification.leaks import refuse_shared
from classification.transfer.judged import JudgedImages, named_by_rank
from classification.transfer.svms import best_C, svm_scores
from classification.transfer.task import Outcome
from detection.data.records import ImageRecord
from detection.data.voc import read_voc
from detection.evaluation.average_precision import eleven_point_ap, recall_precision

REPLICATES = 1000


@dataclass(frozen=True)
class VocData:
    """Images in VOC's layout.

    Attributes:
        root: folder of Annotations, JPEGImages and ImageSets, or the VOCdevkit above it.
        train_split: list in ImageSets/Main of the training images.
        test_split: list in ImageSets/Main of the test images.
        cache: folder for features.
    """

    root: str = "data/VOCdevkit"
    train_split: str = "trainval"
    test_split: str = "test"
    cache: str = "data/cache"


class Voc07:
    """VOC 2007 classification.

    Args:
        data: the images.
        seed: of the held-back images and of the bootstrap.
        limit: uses only this many images of each list, the first ones.
        training_only: does not read the test images.

    Raises:
        FileNotFoundError, ValueError: see ``read_voc``; or an image is in both lists.
    """

    name = "voc07"

    def __init__(
        self, data: VocData, seed: int = 0, limit: int | None = None, *, training_only: bool = False
    ) -> None:
        self.data = data
        train = read_voc(data.root, data.train_split, limit=limit)
        self.classes = train.classes
        records, self.unreadable = list(train.records), dict(train.unreadable)
        self._train_count = len(records)
        if not training_only:
            test = read_voc(data.root, data.test_split, train.classes, limit=limit)
            ids = [[each.image_id for each in found.records] for found in (train, test)]
            refuse_shared(ids[0], ids[1], (data.train_split, data.test_split))
            records += test.records
            self.unreadable |= test.unreadable
        self._seed = seed
        self._ids = [record.image_id for record in records]
        self.paths: Sequence[Path] = [record.path for record in records]
        self.labels = image_labels(records, len(self.classes))
        self._readable = np.ones(len(records), bool)
        cut = f":{limit}" if limit else ""
        self.facts = {"train": data.train_split + cut, "test": data.test_split + cut}

    def leave_out(self, rows: dict[int, str]) -> None:
        """See ``Task``."""
        self._readable[list(rows)] = False
        self.unreadable |= {self._ids[row]: sentence for row, sentence in rows.items()}

    def _rows(self, *, train: bool) -> NDArray[np.int64]:
        rows = np.flatnonzero(self._readable)
        return rows[(rows < self._train_count) == train]

    def choose(self, gram: NDArray) -> tuple[float, float]:
        """See ``Task``; mAP on a third of the training images."""
        rows = self._rows(train=True)
        learn, rest = (rows[part] for part in held_back(len(rows), self._seed))
        # All images of a rare class may be in one part.
        known = [set(of.tolist()) >= {-1, 1} for of in self.labels[learn].T]
        targets = self.labels[:, known]
        if not (targets[rest] > 0).any():
            raise ValueError(
                f"the {len(rows)} training images are too few to hold some back; give --C"
            )
        names = [name for name, here in zip(self.classes, known, strict=True) if here]

        def measure(C: float) -> float:
            return mean_ap(svm_scores(gram, learn, rest, targets, C, names), targets[rest])

        return best_C(measure)

    def evaluate(self, gram: NDArray, C: float | None) -> Outcome:
        """See ``Task``."""
        if C is None:
            C, _ = self.choose(gram)
        train, test = self._rows(train=True), self._rows(train=False)
        labels = self.labels[test]
        scores = svm_scores(gram, train, test, self.labels, C, self.classes)
        of_class = average_precisions(scores, labels)
        return Outcome(
            {"mAP": float(np.nanmean(of_class))},
            {"scores": scores, "labels": labels},
            of_class,
            JudgedImages(test, scores, labels, named_by_rank(scores, labels)),
            (C,),
        )

    def gain(self, before: Outcome, after: Outcome) -> dict[str, float]:
        """See ``Task``; the range is the 95 % interval of a paired bootstrap over test images."""
        both = before.arrays["scores"], after.arrays["scores"]
        gain, low, high = bootstrap_gain(*both, after.arrays["labels"], self._seed)
        return {"": gain, " low": low, " high": high}


def image_labels(records: Sequence[ImageRecord], classes: int) -> NDArray[np.int64]:
    """Labels ``(n, K)`` as in VOC's lists of one class: 1, -1, or 0 for only difficult objects."""
    labels = np.full((len(records), classes), -1, np.int64)
    for row, record in zip(labels, records, strict=True):
        row[record.labels[record.difficult]] = 0
        row[record.labels[~record.difficult]] = 1
    return labels


def average_precision(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """11-point average precision of images ranked by score, ties in their order; 0..1.

    Args:
        scores: ``(n,)``.
        labels: ``(n,)`` 1, -1, or 0 for images that do not count. If none is 1, the result is NaN.
    """
    counted = labels != 0
    order = np.argsort(-scores[counted], kind="stable")
    positive = labels[counted][order] > 0
    if not positive.any():
        return float("nan")
    tp = positive.cumsum()
    recall, precision = recall_precision(tp, (~positive).cumsum(), int(tp[-1]))
    return eleven_point_ap(recall, precision)


def average_precisions(
    scores: NDArray[np.float64], labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Average precisions ``(K,)`` of scores and labels ``(n, K)``; NaN if no image has a class."""
    pairs = zip(scores.T, labels.T, strict=True)
    return np.array([average_precision(*pair) for pair in pairs])


def mean_ap(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Mean AP, of scores and labels ``(n, K)``, over the classes with images."""
    return float(np.nanmean(average_precisions(scores, labels)))


def held_back(count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of ``count`` training images: two thirds to train on, and a third to choose C."""
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[count // 3 :]), np.sort(order[: count // 3])


def bootstrap_gain(
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    labels: NDArray[np.int64],
    seed: int = 0,
    replicates: int = REPLICATES,
) -> tuple[float, float, float]:
    """The gain in mAP of one set of scores over another on the same images.

    Args:
        before: ``(n, K)`` scores.
        after: ``(n, K)`` scores.
        labels: ``(n, K)``.
        seed: of the draws.
        replicates: number of sets of n images drawn with replacement.

    Returns:
        The gain, and its 2.5th and 97.5th percentiles over the replicates.
    """
    generator = np.random.default_rng(seed)
    gains = np.empty(replicates)
    for number in range(replicates):
        rows = np.sort(generator.integers(len(labels), size=len(labels)))
        gains[number] = mean_ap(after[rows], labels[rows]) - mean_ap(before[rows], labels[rows])
    low, high = np.percentile(gains, [2.5, 97.5])
    return mean_ap(after, labels) - mean_ap(before, labels), float(low), float(high)
