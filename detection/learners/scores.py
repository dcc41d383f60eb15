"""Scores of linear models, computed by torch on the network's threads."""

import numpy as np
import torch
from numpy.typing import NDArray


def linear_scores(
    features: NDArray, weights: NDArray[np.float32], bias: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Scores ``(n, K)`` of features ``(n, D)`` with weights ``(K, D)`` and bias ``(K,)``; float32.

    numpy has its own threads, which keep spinning for 20 ms after their work and slow down the next
    image's convolutions (docs/decisions.md).
    """
    rows = torch.from_numpy(features.astype(np.float32, copy=False))
    return np.asarray((rows @ torch.from_numpy(weights).T).numpy() + bias)
