"""VOC 2007 classification: is there an object of a class in the image (paper, Table 6).

An image with difficult objects of a class only is neither for nor against it: it is left out of
that class, in training and in testing. Average precision is the detector's, at 11 recalls.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detection.data.records import ImageRecord
from detection.evaluation.voc_ap import eleven_point_ap, recall_precision

REPLICATES = 1000


def image_labels(records: Sequence[ImageRecord], classes: int) -> NDArray[np.int64]:
    """Labels ``(n, K)`` as in VOC's lists of one class: 1, -1, or 0 for difficult objects only."""
    labels = np.full((len(records), classes), -1, np.int64)
    for row, record in zip(labels, records, strict=True):
        row[record.labels[record.difficult]] = 0
        row[record.labels[~record.difficult]] = 1
    return labels


def average_precision(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """11-point average precision of images ranked by score, ties in their order; 0..1.

    Args:
        scores: ``(n,)``.
        labels: ``(n,)`` 1, -1, or 0 for images that do not count; NaN where none is 1.
    """
    counted = labels != 0
    order = np.argsort(-scores[counted], kind="stable")
    positive = labels[counted][order] > 0
    if not positive.any():
        return float("nan")
    tp = positive.cumsum()
    recall, precision = recall_precision(tp, (~positive).cumsum(), int(tp[-1]))
    return eleven_point_ap(recall, precision)


def mean_ap(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Mean over the classes that have an image, of scores and labels ``(n, K)``."""
    pairs = zip(scores.T, labels.T, strict=True)
    return float(np.nanmean([average_precision(*pair) for pair in pairs]))


def held_back(count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two thirds of so many training images to train on, and a third to choose by."""
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[count // 3 :]), np.sort(order[: count // 3])


def bootstrap_gain(
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    labels: NDArray[np.int64],
    seed: int = 0,
    replicates: int = REPLICATES,
) -> tuple[float, float, float]:
    """How much mAP one way to score gains over another on the same images.

    Args:
        before: ``(n, K)`` scores.
        after: ``(n, K)`` scores.
        labels: ``(n, K)``.
        seed: of the draws.
        replicates: sets of n images drawn with replacement.

    Returns:
        The gain, and the 2.5th and 97.5th percentile of it over the replicates.
    """
    generator = np.random.default_rng(seed)
    gains = np.empty(replicates)
    for number in range(replicates):
        rows = np.sort(generator.integers(len(labels), size=len(labels)))
        gains[number] = mean_ap(after[rows], labels[rows]) - mean_ap(before[rows], labels[rows])
    low, high = np.percentile(gains, [2.5, 97.5])
    return mean_ap(after, labels) - mean_ap(before, labels), float(low), float(high)
