"""Recall, precision and their averages, from counts of true and false positives (``xVOCap.m``).

There are two averages. ``ap`` is VOC 2007's: the mean over the 11 recalls ``k * 0.1`` of the
highest precision at that recall or above. These are the recalls that GNU Octave computes for the
devkit's ``0:0.1:1``, so a recall of exactly 3/10, 6/10 or 7/10 does not reach its threshold.
MATLAB computes the upper half as ``1 - k * 0.1`` (docs/differences.md), which 6/10 and 7/10 reach.
``ap_area`` is the rule since VOC 2010: the area under the precision made monotone.

If no detection of a class counts, the devkit's average is NaN; here it is 0. A class without an
object that counts has no average, and the mean leaves it out. Otherwise such classes would lower
the mean of a small split, although no detector can find an object in them. VOC's own splits have
objects of every class.

Nothing is rounded and everything is float64.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RECALLS = np.arange(11) * 0.1


@dataclass(frozen=True)
class ClassResult:
    """The result of one class; vectors have one entry per detection, by decreasing score.

    Attributes:
        npos: number of objects that are not difficult.
        scores: ``(n,)`` float64, decreasing.
        tp: ``(n,)`` int64, true positives so far; an ignored detection repeats the count before it.
        fp: ``(n,)`` int64, false positives so far, likewise.
        ap: 11-point average precision, 0..1; None if ``npos`` is 0.
        ap_area: area under the monotone precision, 0..1; None if ``npos`` is 0.
    """

    npos: int
    scores: NDArray[np.float64]
    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    ap: float | None
    ap_area: float | None

    @property
    def ntp(self) -> int:
        """True positives among all detections."""
        return int(self.tp[-1]) if len(self.tp) else 0

    @property
    def nfp(self) -> int:
        """False positives among all detections."""
        return int(self.fp[-1]) if len(self.fp) else 0

    @property
    def recall(self) -> NDArray[np.float64]:
        """``(n,)`` recall so far; NaN, as in the devkit, if ``npos`` is 0."""
        return recall_precision(self.tp, self.fp, self.npos)[0]

    @property
    def precision(self) -> NDArray[np.float64]:
        """``(n,)`` precision so far; NaN, as in the devkit, while all detections are ignored."""
        return recall_precision(self.tp, self.fp, self.npos)[1]


@dataclass(frozen=True)
class VOCResult:
    """The results of all classes, in the order of the class list."""

    per_class: Mapping[str, ClassResult]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the K classes."""
        return tuple(self.per_class)

    @property
    def without_objects(self) -> tuple[str, ...]:
        """Names of the classes without an object that counts; the means leave them out."""
        return tuple(name for name, result in self.per_class.items() if result.ap is None)

    @property
    def map(self) -> float:
        """Mean over the classes with objects of the 11-point average: VOC 2007's mAP, 0..1."""
        return _mean(result.ap for result in self.per_class.values())

    @property
    def map_area(self) -> float:
        """Mean over the classes with objects of the area average precision, 0..1."""
        return _mean(result.ap_area for result in self.per_class.values())


def _mean(averages: Iterable[float | None]) -> float:
    return float(np.mean([one for one in averages if one is not None]))


def recall_precision(
    tp: NDArray[np.int64], fp: NDArray[np.int64], npos: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Recall and precision, ``(n,)`` each, of running counts ``(n,)``; 0/0 is NaN."""
    with np.errstate(invalid="ignore"):
        return tp / np.float64(npos), tp / (tp + fp).astype(np.float64)


def eleven_point_ap(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """VOC 2007's average precision of a curve ``(n,)``; NaN entries are ignored."""
    total = 0.0
    for threshold in RECALLS:
        reached = precision[(recall >= threshold) & ~np.isnan(precision)]
        total += reached.max(initial=0.0) / len(RECALLS)
    return float(total)


def area_ap(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """Area under the monotone precision of a curve ``(n,)``; NaN precisions count as 0."""
    steps = np.concatenate(([0.0], recall, [1.0]))
    heights = np.concatenate(([0.0], np.nan_to_num(precision), [0.0]))
    envelope = np.maximum.accumulate(heights[::-1])[::-1]
    return float((np.diff(steps) * envelope[1:]).sum())
