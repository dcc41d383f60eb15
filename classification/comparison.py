"""Whether two classifiers differ: paired tests over the images that both were tested on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classification.testing import read_ranks

DRAWS = 20_000


@dataclass(frozen=True)
class Comparison:
    """One classifier, or the mean of some, beside another.

    Attributes:
        images: that both were tested on.
        difference: of the shares of images that are right, the first less the second.
        low: of the 95 % interval of the difference, by a bootstrap over images.
        high: of the same interval.
        p: two-sided, of a difference so large where the classifiers are alike: each image's
            difference might then as well have the other sign. Of two classifiers this is McNemar's
            test.
        better: images of which the first is right more often.
        worse: less often.
    """

    images: int
    difference: float
    low: float
    high: float
    p: float
    better: int
    worse: int

    def __str__(self) -> str:
        return (
            f"{self.difference:+.4f} (95 % {self.low:+.4f} to {self.high:+.4f}), p {self.p:.4f}; "
            f"of {self.images} images {self.better} better, {self.worse} worse"
        )


def compare(first: NDArray, second: NDArray, seed: int = 0) -> Comparison:
    """Compare classifiers by which images they got right.

    Args:
        first: ``(N,)`` whether each image is right, or the share of several tests with it right.
        second: the same of the others, for the same images.
        seed: of the draws.

    Raises:
        ValueError: not the same number of images, or none.
    """
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(
            f"a comparison needs two rows of the same images, got {first.shape} and {second.shape}"
        )
    values = first.astype(np.float64) - second.astype(np.float64)
    count, mean = len(values), float(values.mean())
    rng = np.random.default_rng(seed)
    # Images of one difference are alike: only how many of each are drawn matters.
    each, numbers = np.unique(values, return_counts=True)
    drawn = rng.multinomial(count, numbers / count, DRAWS) @ each / count
    low, high = np.quantile(drawn, (0.025, 0.975))
    sizes, numbers = np.unique(np.abs(values[values != 0]), return_counts=True)
    flipped = (2 * rng.binomial(numbers, 0.5, (DRAWS, len(numbers))) - numbers) @ sizes / count
    extreme = np.count_nonzero(np.abs(flipped) >= abs(mean) - 1e-12)
    return Comparison(
        count,
        mean,
        float(low),
        float(high),
        (1 + extreme) / (1 + DRAWS),
        int(np.count_nonzero(values > 0)),
        int(np.count_nonzero(values < 0)),
    )


def shares_right(paths: Sequence[str | Path]) -> NDArray[np.float64]:
    """The share of some tests, such as of three seeds, that has each image right.

    Args:
        paths: of predictions.csv.

    Returns:
        ``(N,)``, the images sorted by name.

    Raises:
        FileNotFoundError, ValueError: as ``read_ranks``; or the tests are of other images.
    """
    tests = [read_ranks(path) for path in paths]
    images = sorted(tests[0])
    for path, ranks in zip(paths, tests, strict=True):
        if ranks.keys() != set(images):
            others = len(ranks.keys() ^ set(images))
            raise ValueError(
                f"{path} and {paths[0]} are tests of different images: {others} are only in one of "
                "them; compare tests of the same split"
            )
    right = np.array([[ranks[image] == 1 for image in images] for ranks in tests])
    return right.mean(axis=0)


def compare_tests(first: Sequence[str | Path], second: Sequence[str | Path]) -> Comparison:
    """``compare`` the top-1 of two groups of tests, each of one or more, by their predictions.csv.

    Raises:
        FileNotFoundError, ValueError: as ``shares_right``.
    """
    shares_right([first[0], second[0]])  # that both are of the same images
    return compare(shares_right(first), shares_right(second))
