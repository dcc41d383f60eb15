"""Chips: at fine scales, fine-tuning computes convolutions on a part of an image only.

A view needs only some of its image's windows. At the finest scales an image has several times as
many pixels as at 688, and small windows cover a fraction of them. So convolutions are computed on a
part of the image around an object, as in SNIPER (arXiv:1805.09300).
"""

import numpy as np
from numpy.typing import NDArray

from detection.features.resizing import is_bounded

CHIP_SIDE = 688
"""Shorter side of a chip after resizing, in pixels: the paper's single scale."""


def draw_chip(
    box: NDArray, image_size: tuple[int, int], side: int, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """A random part of an image, with the same aspect, that contains a box.

    Args:
        box: ``(4,)`` half-open pixels of the image.
        image_size: (height, width).
        side: shorter side of the image after resizing, in pixels.
        rng: draws the place.

    Returns:
        (x1, y1, x2, y2) of the part, in whole pixels; its shorter side has CHIP_SIDE pixels after
        resizing. The whole image if the part would not be smaller, if the box does not fit, or if
        the image is so long that its shorter side stays below ``side``.
    """
    height, width = image_size
    share = CHIP_SIDE / side
    size = np.ceil([width * share, height * share]).astype(np.int64)
    low = np.maximum(np.ceil(box[2:]) - size, 0).astype(np.int64)
    high = np.minimum(np.floor(box[:2]), [width, height] - size).astype(np.int64)
    if share >= 1 or is_bounded(image_size, side) or (low > high).any():
        return 0, 0, width, height
    x, y = rng.integers(low, high, endpoint=True).tolist()
    return x, y, x + int(size[0]), y + int(size[1])


def inside(windows: NDArray, chip: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """Which windows ``(P, 4)`` lie in a chip: ``(P,)``."""
    after = windows[:, :2] >= chip[:2]
    before = windows[:, 2:] <= chip[2:]
    return np.asarray((after & before).all(axis=1))
