"""Which classes SVMs name of each test image, and what is wrong with that: what a page shows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class JudgedImages:
    """Test images, and the classes named of them.

    Attributes:
        rows: ``(n,)`` places among the images of the task.
        scores: ``(n, K)``.
        labels: ``(n, K)`` 1, -1, or 0 where an image does not count for a class.
        named: ``(n, K)``; never where the label is 0.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    named: NDArray[np.bool_]

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """``(n, K)`` named, and not in the image."""
        return self.named & (self.labels < 0)

    @property
    def missed(self) -> NDArray[np.bool_]:
        """``(n, K)`` in the image, and not named."""
        return ~self.named & (self.labels > 0)

    def confusion(self) -> NDArray[np.int64]:
        """``(K, K)`` images of the row's class of which the column's is named wrongly."""
        return (self.labels > 0).T.astype(np.int64) @ self.wrong.astype(np.int64)

    def worst_first(self) -> NDArray[np.int64]:
        """``(n,)`` places of images: those with most mistakes, of these the surest."""
        mistakes = self.wrong.sum(axis=1) + self.missed.sum(axis=1)
        surest = np.where(self.wrong, self.scores, -np.inf).max(axis=1)
        return np.lexsort((-surest, -mistakes))


def named_by_rank(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Of each class as many images as have it, the best-scored ones; precision is recall there.

    Args:
        scores: ``(n, K)``.
        labels: ``(n, K)`` 1, -1, or 0 for images that do not count; these are never named.
    """
    counted = np.where(labels == 0, -np.inf, scores)
    ranks = np.argsort(np.argsort(-counted, axis=0, kind="stable"), axis=0)
    return ranks < (labels > 0).sum(axis=0)


def named_by_best(scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Of each image the class of the highest score ``(n, K)``, the first of equals."""
    return np.arange(scores.shape[1]) == scores.argmax(axis=1)[:, None]
