"""Whether two detectors differ: a paired bootstrap over the images that both were tested on.

Images are drawn with replacement, the same for both, and every AP is computed from the drawn
images. This compares two trained detectors, not two methods: trainings that differ only in their
seed also give different detectors, and no number of images shows how large that variation is.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from detection.evaluation.average_precision import RECALLS
from detection.evaluation.error_kinds import ERRORS, Explained, Kind, average_precisions
from detection.evaluation.report import columns_of

DRAWS = 4000
# Draws computed at a time, to limit memory.
AT_ONCE = 500
# Probability that an interval excludes 0 although there is no difference.
CHANCE = 0.05


@dataclass(frozen=True)
class Difference:
    """An average precision of two detectors.

    Attributes:
        first: of the first detector, 0..1.
        second: of the second detector, 0..1.
        low: lower bound of the difference second minus first.
        high: upper bound of this difference.
    """

    first: float
    second: float
    low: float
    high: float

    @property
    def gain(self) -> float:
        """The second minus the first."""
        return self.second - self.first

    @property
    def verdict(self) -> str:
        """Whether the second is ``better`` or ``worse``; ``no difference`` if it is not clear."""
        if self.low <= 0 <= self.high:
            return "no difference"
        return "better" if self.low > 0 else "worse"


@dataclass(frozen=True)
class Comparison:
    """The comparison of two detectors.

    Attributes:
        images: number of images that both were tested on.
        mean: mAP; its interval contains the difference in 95 of 100 draws.
        per_class: AP of each class with objects. The intervals are corrected for the number of
            classes (Bonferroni): if nothing differs, only one of 20 comparisons reports a
            difference in any class.
    """

    images: int
    mean: Difference
    per_class: dict[str, Difference]


def compare(first: Explained, second: Explained, images: int, seed: int = 0) -> Comparison:
    """Compare detectors on the same images.

    Args:
        first: detections of the first detector.
        second: of the second, in the same images and of the same classes.
        images: number of images.
        seed: of the draws.

    Raises:
        ValueError: classes or objects differ.
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
    """Means ``(draws,)`` over the classes with objects in a draw; NaN if there are none."""
    count = (~np.isnan(gains)).sum(axis=1)
    return np.where(count > 0, np.nansum(gains, axis=1) / np.maximum(count, 1), np.nan)


def _interval(gains: NDArray[np.float64], chance: float) -> tuple[float, float]:
    low, high = np.nanquantile(gains, (chance / 2, 1 - chance / 2))
    return float(low), float(high)


def drawn_precisions(explained: Explained, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """11-point AP ``(draws, K)`` of drawn images; NaN if no object of a class was drawn.

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
    """AP ``(draws,)`` of a class whose detections ``(n,)`` are sorted by decreasing score.

    The highest precisions are at correct detections, so a column for each of these is enough.
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
    best = np.pad(best, ((0, 0), (0, 1)))  # 0 for a recall that is not reached
    for point in RECALLS:
        first = (recall < point).sum(axis=1)
        averages += best[np.arange(len(best)), first] / len(RECALLS)
    return averages


def format_comparison(comparison: Comparison) -> str:
    """The comparison as a table, one line per class, mAP last; without a final newline."""
    width = max(columns_of(name) for name in ("class", *comparison.per_class))
    lines = [f"{'class':<{width}}  {'first':>7}  {'second':>7}  {'gain':>7}  interval"]
    rows = comparison.per_class | {"mAP": comparison.mean}
    for name, one in rows.items():
        lines.append(
            f"{name}{' ' * (width - columns_of(name))}  {one.first:>7.4f}  {one.second:>7.4f}  "
            f"{one.gain:>+7.4f}  {one.low:+.4f} to {one.high:+.4f}  {one.verdict}"
        )
    return "\n".join(lines)
