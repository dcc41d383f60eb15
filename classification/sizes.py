"""The size of the network's images in an epoch (paper, section 2.3, multi-size training)."""

import numpy as np

from classification.config import Training


def size_of_epoch(settings: Training, seed: int, epoch: int) -> int:
    """Side in pixels of the images of an epoch, counted from 0; the same in all processes."""
    if settings.sizes == "single":
        return settings.crop
    if settings.sizes == "alternating":
        return settings.small if epoch % 2 else settings.crop
    rng = np.random.default_rng([seed, 2, epoch])
    return int(rng.integers(settings.small, settings.crop + 1))
