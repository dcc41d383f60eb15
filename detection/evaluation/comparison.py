"""Whether two detectors differ: a paired bootstrap over the images that both were tested on.

Images are drawn with replacement, the same for both, and every AP is computed anew of those drawn.
What differs is the detectors, over such images: two trainings that differ in their seed alone give
different detectors too, and by how much no number of images tells.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from detection.evaluation.average_precision import RECALLS
from detection.evaluation.error_kinds import ERRORS, Explained, Kind, average_precisions
from detection.evaluation.report import columns_of

DRAWS = 4000
# Drawn at a time, for memory.
AT_ONCE = 500
# The chance that an interval leaves out a difference of 0 where there is none.
CHANCE = 0.05


@dataclass(frozen=True)
class Difference:
    """One average precision of two detectors.

    Attributes:
        first: of the first detector, 0..1.
        second: of the second.
        low: of the interval of the second less the first.
        high: of the same interval.
    """

    first: float
    second: float
    low: float
    high: float

    @property
    def gain(self) -> float:
        """The second less the first."""
        return self.second - self.first

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` of the second, or ``no difference`` that could be told."""
        if self.low <= 0 <= self.high:
            return "no difference"
        return "better" if self.low > 0 else "worse"


@dataclass(frozen=True)
class Comparison:
    """Two detectors side by side.

    Attributes:
        images: that both were tested on.
        mean: mAP; its interval holds the difference in 95 of 100 draws.
        per_class: AP of each class with objects. Their intervals hold together: where nothing
            differs, one of 20 comparisons finds any class that does (Bonferroni).
    """

    images: int
    mean: Difference
    per_class: dict[str, Difference]


def compare(first: Explained, second: Explained, images: int, seed: int = 0) -> Comparison:
    """Compare detectors on the same images.

    Args:
        first: the detections of one.
        second: of the other, in the same images and of the same classes.
        images: how many there are.
        seed: of the draws.

    Raises:
        ValueError: they are of other classes or objects.
    """
    if first.classes != second.classes or not np.array_equal(
        first.objects.boxes, second.objects.boxes
    ):
        raise ValueError("a comparison needs two tests of the same images and classes")
    rng = np.random.default_rng(seed)
    drawn: list[NDArray] = []
    for _ in range(0, DRAWS, AT_ONCE):
        weights = rng.multinomial(images, np.full(images, 1 / images), AT_ONCE)
        drawn.append(drawn_precisions(second, weights) - drawn_precisions(first, weights))
    gains = np.concatenate(drawn)
    one, other = average_precisions(first), average_precisions(second)
    known = [label for label, value in enumerate(one) if not np.isnan(value)]
    before, after = float(np.nanmean(one)), float(np.nanmean(other))
    return Comparison(
        images,
        Difference(before, after, *_interval(_means(gains), CHANCE)),
        {
            first.classes[label]: Difference(
                float(one[label]),
                float(other[label]),
                *_interval(gains[:, label], CHANCE / len(known)),
            )
            for label in known
        },
    )


def _means(gains: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means ``(draws,)`` over the classes that have objects in a draw; NaN of none."""
    count = (~np.isnan(gains)).sum(axis=1)
    return np.where(count > 0, np.nansum(gains, axis=1) / np.maximum(count, 1), np.nan)


def _interval(gains: NDArray[np.float64], chance: float) -> tuple[float, float]:
    low, high = np.nanquantile(gains, (chance / 2, 1 - chance / 2))
    return float(low), float(high)


def drawn_precisions(explained: Explained, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """11-point AP ``(draws, K)`` of images drawn; NaN of a class of which no object was drawn.

    Args:
        explained: the detections.
        weights: ``(draws, images)`` how often each image was drawn.
    """
    objects = explained.objects
    averages = np.full((len(weights), len(explained.classes)), np.nan)
    for label in range(len(explained.classes)):
        mine = objects.image[(objects.labels == label) & ~objects.difficult]
        npos = weights @ np.bincount(mine, minlength=weights.shape[1])
        rows = explained.labels == label
        images, kinds = explained.image[rows], explained.kind[rows]
        averages[:, label] = _drawn_precision(images, kinds, weights, npos)
    return averages


def _drawn_precision(
    images: NDArray, kinds: NDArray, weights: NDArray, npos: NDArray
) -> NDArray[np.float64]:
    """AP ``(draws,)`` of a class whose detections ``(n,)`` stand by falling score.

    Precision is highest just where a detection is right, so these places are enough: a column each.
    """
    right = np.flatnonzero(kinds == Kind.FOUND)
    averages = np.where(npos > 0, 0.0, np.nan)
    if not len(right):
        return averages
    counts = []
    for kept in (kinds == Kind.FOUND, np.isin(kinds, ERRORS)):
        rows = np.flatnonzero(kept)
        columns = np.searchsorted(right, rows)
        rows, columns = rows[columns < len(right)], columns[columns < len(right)]
        place = csr_array(
            (np.ones(len(rows), np.int64), (columns, images[rows])),
            (len(right), weights.shape[1]),
        )
        counts.append((place @ weights.T).T.cumsum(axis=1))
    true, false = counts
    recall = true / np.maximum(npos, 1)[:, None]
    precision = true / np.maximum(true + false, 1)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    best = np.pad(best, ((0, 0), (0, 1)))  # of a recall that is not reached
    for point in RECALLS:
        first = (recall < point).sum(axis=1)
        averages += best[np.arange(len(best)), first] / len(RECALLS)
    return averages


def format_comparison(comparison: Comparison) -> str:
    """The comparison as a table, a class a line, mAP last; without a newline at its end."""
    width = max(columns_of(name) for name in ("class", *comparison.per_class))
    lines = [f"{'class':<{width}}  {'first':>7}  {'second':>7}  {'gain':>7}  interval"]
    rows = comparison.per_class | {"mAP": comparison.mean}
    for name, one in rows.items():
        lines.append(
            f"{name}{' ' * (width - columns_of(name))}  {one.first:>7.4f}  {one.second:>7.4f}  "
            f"{one.gain:>+7.4f}  {one.low:+.4f} to {one.high:+.4f}  {one.verdict}"
        )
    return "\n".join(lines)
