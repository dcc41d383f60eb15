"""The classes that SVMs predict for each test image, and the mistakes, for the page."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class JudgedImages:
    """Test images, and the classes predicted for them.

    Attributes:
        rows: ``(n,)`` indices among the images of the task.
        scores: ``(n, K)``.
        labels: ``(n, K)`` 1, -1, or 0 if an image does not count for a class.
        named: ``(n, K)`` predicted classes; never where the label is 0.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    named: NDArray[np.bool_]

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """``(n, K)`` classes predicted, but not in the image."""
        return self.named & (self.labels < 0)

    @property
    def missed(self) -> NDArray[np.bool_]:
        """``(n, K)`` classes in the image, but not predicted."""
        return ~self.named & (self.labels > 0)

    def confusion(self) -> NDArray[np.int64]:
        """``(K, K)`` images of the row's class for which the column's is wrongly predicted."""
        return (self.labels > 0).T.astype(np.int64) @ self.wrong.astype(np.int64)

    def worst_first(self) -> NDArray[np.int64]:
        """``(n,)`` indices of images by decreasing number of mistakes, then by their scores."""
        mistakes = self.wrong.sum(axis=1) + self.missed.sum(axis=1)
        surest = np.where(self.wrong, self.scores, -np.inf).max(axis=1)
        return np.lexsort((-surest, -mistakes))


def named_by_rank(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Predict each class for the best-scored images, as many as have it: precision equals recall.

    Args:
        scores: ``(n, K)``.
        labels: ``(n, K)`` 1, -1, or 0 for images that do not count, for which it is not predicted.
    """
    counted = np.where(labels == 0, -np.inf, scores)
    ranks = np.argsort(np.argsort(-counted, axis=0, kind="stable"), axis=0)
    return ranks < (labels > 0).sum(axis=0)


def named_by_best(scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Predict for each image the class with the highest score ``(n, K)``; on ties, the first."""
    return np.arange(scores.shape[1]) == scores.argmax(axis=1)[:, None]
