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
    """The comparison of two classifiers, or of the means of several.

    Attributes:
        images: number of images that both were tested on.
        difference: accuracy of the first minus that of the second.
        low: lower bound of the 95 % interval of the difference, from a bootstrap over images.
        high: upper bound of this interval.
        p: two-sided p-value of the difference if the classifiers are equally good, so that the
            sign of each image's difference is random. For two classifiers this is McNemar's test.
        better: number of images on which the first is correct more often.
        worse: number of images on which it is correct less often.
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
    """Compare classifiers by the images that they classify correctly.

    Args:
        first: ``(N,)`` whether each image is correct, or the share of several tests in which it is.
        second: likewise for the second classifier, for the same images.
        seed: of the draws.

    Raises:
        ValueError: the numbers of images differ, or are 0.
    """
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(
            f"a comparison needs two rows of the same images, got {first.shape} and {second.shape}"
        )
    values = first.astype(np.float64) - second.astype(np.float64)
    count, mean = len(values), float(values.mean())
    rng = np.random.default_rng(seed)
    # Images with the same difference are equivalent, so only their numbers are drawn.
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
    """For each image, the share of several tests, such as three seeds, in which it is correct.

    Args:
        paths: of the tests' predictions.csv.

    Returns:
        ``(N,)`` for the images sorted by name.

    Raises:
        FileNotFoundError, ValueError: see ``read_ranks``; or the tests' images differ.
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
    """``compare`` the top-1 of two groups of one or more tests, from their predictions.csv.

    Raises:
        FileNotFoundError, ValueError: see ``shares_right``.
    """
    shares_right([first[0], second[0]])  # checks that both have the same images
    return compare(shares_right(first), shares_right(second))
