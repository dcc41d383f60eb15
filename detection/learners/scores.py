"""Scores of linear models, by torch: on the threads that the network has."""

import numpy as np
import torch
from numpy.typing import NDArray


def linear_scores(
    features: NDArray, weights: NDArray[np.float32], bias: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Scores ``(n, K)`` of features ``(n, D)`` by weights ``(K, D)`` and bias ``(K,)``; float32.

    numpy's threads are others than the network's, and go on spinning for 20 ms when they are done,
    at the cost of the next image's convolutions (docs/decisions.md).
    """
    rows = torch.from_numpy(features.astype(np.float32, copy=False))
    return np.asarray((rows @ torch.from_numpy(weights).T).numpy() + bias)
