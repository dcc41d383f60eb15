"""Box regression: a better box from a window's pooled conv5 (paper 4.1, after R-CNN appendix C).

Each class has a ridge regression to four targets, ``t = [(gx - px) / pw, (gy - py) / ph,
log(gw / pw), log(gh / ph)]``, for a window p and its ground-truth box g (centres and sizes).
Targets are centred and whitened per class. Features get a constant 1, which is regularised like
the others. The penalty is 4000 in the released SPP-net code and 1000 in R-CNN, for features at
mean norm 20.

Differences from the released code: sizes are half-open, one pixel more than its ``x2 - x1 + eps``
on inclusive corners; a size grows at most 62.5-fold, so that boxes stay finite; a class trains on
at most 20,000 samples of 12,800 numbers, or fewer of longer features. The caller chooses which
windows are samples (overlap of at least 0.5; R-CNN: 0.6).
"""

import logging
import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from detection.learners.ridge import Rows, Samples

# The exponential is limited: a 16-pixel window becomes at most a 1000-pixel box.
MAX_LOG_SIZE = math.log(1000 / 16)
# Added to the targets' variances before whitening (released code).
WHITENING = 0.001

logger = logging.getLogger(__name__)


def _centres_and_sizes(boxes: NDArray) -> tuple[NDArray, NDArray]:
    sizes = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + sizes / 2, sizes


def encode(windows: NDArray, boxes: NDArray) -> NDArray[np.float64]:
    """Targets ``(n, 4)`` that move windows ``(n, 4)`` to boxes ``(n, 4)``; inverse of ``decode``.

    Raises:
        ValueError: a window or box has no area.
    """
    centres, sizes = _centres_and_sizes(windows.astype(np.float64))
    box_centres, box_sizes = _centres_and_sizes(boxes.astype(np.float64))
    if not ((sizes > 0).all() and (box_sizes > 0).all()):
        raise ValueError("box regression needs windows and boxes with an area above 0")
    return np.concatenate([(box_centres - centres) / sizes, np.log(box_sizes / sizes)], axis=1)


def decode(windows: NDArray, targets: NDArray) -> NDArray:
    """Boxes ``(..., 4)`` of windows ``(..., 4)`` moved by targets ``(..., 4)``, in their dtype.

    Leading dimensions broadcast. Log sizes are limited to ``MAX_LOG_SIZE``. Boxes are not clipped
    to the image.
    """
    centres, sizes = _centres_and_sizes(windows)
    centres = centres + targets[..., :2] * sizes
    half = np.exp(np.minimum(targets[..., 2:], MAX_LOG_SIZE)) * sizes / 2
    return np.concatenate([centres - half, centres + half], axis=-1)


def whitening_of(centred: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The matrix ``T`` ``(4, 4)`` that whitens centred targets ``(n, 4)``, and its inverse.

    ``T = V diag(1 / sqrt(D + 0.001)) V'`` with ``V, D`` the eigenvectors and values of ``Y'Y / n``.
    """
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    roots = np.sqrt(np.maximum(values, 0) + WHITENING)
    return (vectors / roots) @ vectors.T, (vectors * roots) @ vectors.T


def fit_class(
    samples: "Samples", targets: NDArray[np.float64], alpha: float
) -> NDArray[np.float64]:
    """Weights of one class, with mean and whitening of the targets included.

    Args:
        samples: n of length D + 1.
        targets: ``(n, 4)``.
        alpha: penalty.

    Returns:
        ``(D + 1, 4)``: ``samples @ weights`` are the predicted targets.

    Raises:
        ValueError: the penalty is too small for float32, or a feature is not finite.
    """
    from detection.learners.ridge import ridge  # SciPy takes a while, detection does not need it

    mean = targets.mean(axis=0)
    whiten, unwhiten = whitening_of(targets - mean)
    # Solved in float32, like the features: at this penalty weights differ from float64's by 1e-6 of
    # the largest, and it takes half the memory and a third of the time.
    white = ((targets - mean) @ whiten).astype(np.float32)
    try:
        weights = ridge(samples, white, alpha).astype(np.float64) @ unwhiten
    except np.linalg.LinAlgError as error:
        raise ValueError(
            f"box regression cannot be solved with a penalty of {alpha:g}; a larger one, such as "
            "the default of 4000, helps"
        ) from error
    weights[-1] += mean
    return np.asarray(weights)


class BoxRegressor:
    """Box regression of K classes, with scikit-learn's interface.

    Args:
        alpha: ridge penalty lambda; higher moves boxes less. SPP-net has 4000, R-CNN 1000, for
            features at mean norm 20.
        max_numbers: limit on the samples of a class times the length of a feature; samples are
            evenly spaced over those given. It limits the time, not the memory.

    Attributes:
        weights_: ``(K, D + 1, 4)`` float32; the last row belongs to the constant 1. A class without
            samples has the prior or, without a prior, zeros, which leave windows as they are.
    """

    weights_: NDArray[np.float32]

    def __init__(self, alpha: float = 4000.0, max_numbers: int = 20_000 * 12_800) -> None:
        self.alpha = alpha
        self.max_numbers = max_numbers

    @classmethod
    def from_arrays(cls, weights: NDArray) -> "BoxRegressor":
        """A fitted regressor from given weights ``(K, D + 1, 4)``."""
        if weights.ndim != 3 or weights.shape[2] != 4:
            raise ValueError(f"box regression needs weights (K, D + 1, 4), got {weights.shape}")
        regressor = cls()
        regressor.weights_ = np.ascontiguousarray(weights, dtype=np.float32)
        return regressor

    def fit(
        self,
        features: "Rows",
        windows: NDArray,
        targets: NDArray,
        labels: NDArray,
        num_classes: int | None = None,
        scale: float = 1.0,
        prior: NDArray[np.float32] | None = None,
    ) -> "BoxRegressor":
        """Fit every class on its own samples, in memory that does not depend on their number.

        Args:
            features: ``(n, D)`` float32 or float16, in memory or on disk.
            windows: ``(n, 4)``, area above 0.
            targets: ``(n, 4)`` ground-truth boxes that the windows should become, area above 0.
            labels: ``(n,)`` int64, the class of each box.
            num_classes: K; None takes the highest label + 1.
            scale: factor on the features, to bring them to mean norm 20.
            prior: ``(D + 1, 4)`` weights for the features before ``scale``. Every class learns the
                rest of its targets after these weights, so the penalty pulls towards them instead
                of 0.

        Raises:
            ValueError: lengths differ, a label is out of range, or a box has no area.
        """
        count = len(labels)
        if not len(features) == len(windows) == len(targets) == count:
            raise ValueError(
                f"box regression needs equal numbers of features, windows, targets and labels, "
                f"got {len(features)}, {len(windows)}, {len(targets)}, {count}"
            )
        if num_classes is None:
            num_classes = int(labels.max(initial=-1)) + 1
        if count and not 0 <= labels.min() <= labels.max() < num_classes:
            raise ValueError(
                f"labels must be from 0 to {num_classes - 1}, got {labels.min()} to {labels.max()}"
            )
        from detection.learners.ridge import Samples

        encoded = encode(windows, targets)
        weights = np.zeros((num_classes, features.shape[1] + 1, 4), np.float32)
        if prior is not None:
            weights[:] = prior
            weights[:, :-1] /= np.float32(scale)
        for label in range(num_classes):
            rows = self._rows(np.flatnonzero(labels == label), features.shape[1])
            if not len(rows):
                logger.info("box regression: class %d has no samples to learn from", label)
                continue
            samples = Samples(features, rows, scale)
            rest = encoded[rows]
            if prior is not None:
                for place, block in samples.blocks():
                    rest[place] -= block @ weights[label]
            weights[label] += fit_class(samples, rest, self.alpha)
            logger.debug("box regression: class %d, %d samples", label, len(rows))
        self.weights_ = weights
        return self

    def _rows(self, rows: NDArray[np.int64], length: int) -> NDArray[np.int64]:
        most = max(1, self.max_numbers // length)
        if len(rows) <= most:
            return rows
        return rows[np.arange(most) * len(rows) // most]

    def predict(
        self, features: NDArray | Tensor, windows: NDArray, index: NDArray | None = None
    ) -> NDArray[np.float32]:
        """Each class's boxes ``(P, K, 4)`` float32 for windows, not clipped.

        Args:
            features: ``(U, D)`` at the scale of ``fit``; an array is used as float32, a tensor in
                its own type and on its device.
            windows: ``(P, 4)`` float32.
            index: ``(P,)`` row of ``features`` for each window; None if each window has its row.

        Raises:
            RuntimeError: not fitted.
            ValueError: features have another length.
        """
        if not hasattr(self, "weights_"):
            raise RuntimeError("this box regressor is not fitted: call fit or from_arrays first")
        num_classes, length, _ = self.weights_.shape
        if features.ndim != 2 or features.shape[1] != length - 1:
            raise ValueError(
                f"this box regressor reads features of shape (n, {length - 1}), "
                f"got {features.shape}"
            )
        matrix = self.weights_.transpose(1, 0, 2).reshape(length, num_classes * 4)
        if not isinstance(features, Tensor):
            features = torch.from_numpy(features.astype(np.float32, copy=False))
        weights = torch.from_numpy(matrix[:-1]).to(features.device, features.dtype)
        targets = (features @ weights).float().cpu().numpy() + matrix[-1]
        if index is not None:
            targets = targets[index]
        moved = decode(
            windows.astype(np.float32, copy=False)[:, None], targets.reshape(-1, num_classes, 4)
        )
        return np.asarray(moved)
