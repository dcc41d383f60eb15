"""Chooses the scale from which a window is pooled.

For each scale, the image is resized so that its shorter side has that length. A window is pooled
from the scale at which its size is nearest to that of the network's training images (paper 4.1).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SCALES: dict[int, tuple[int, ...]] = {1: (688,), 5: (480, 576, 688, 864, 1200)}
"""The paper's one and five scales: shorter sides in pixels. The released code has 874 instead of
the paper's 864."""

TRAINED_SIDE = 224
RELEASED_SIDE = 208
"""13 cells of 16 pixels: the released code uses this instead of 224 with ZF-5."""


@dataclass(frozen=True)
class ScaleChoice:
    """The scales of an image, and the rule that chooses a window's scale.

    Attributes:
        scales: shorter sides in pixels.
        rule: the paper's (``choose_scale_paper``) or the released code's.
        standard_side: used only by the released code's rule.

    Raises:
        ValueError: no scale, or a scale that is not a positive number.
    """

    scales: tuple[int, ...]
    rule: Literal["paper", "released"] = "paper"
    standard_side: int = RELEASED_SIDE

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) < 1:
            raise ValueError(f"scales must be one or more positive pixels, got {list(self.scales)}")

    def best_fit(self, windows: NDArray, image_size: tuple[int, int]) -> NDArray[np.int64]:
        """Index ``(P,)`` of the scale of each window; arguments, errors: ``choose_scale_*``."""
        if self.rule == "paper":
            return choose_scale_paper(windows, image_size, self.scales)
        return choose_scale_released(windows, image_size, self.scales, self.standard_side)


def choose_scale_paper(
    windows: NDArray, image_size: tuple[int, int], scales: tuple[int, ...]
) -> NDArray[np.int64]:
    """The scale at which a window's number of pixels is nearest to 224 x 224 (paper 4.1).

    Args:
        windows: ``(P, 4)`` half-open pixels of the original image.
        image_size: (height, width) of the original image.
        scales: shorter sides in pixels.

    Returns:
        ``(P,)`` index into ``scales``; on ties, the first.

    Raises:
        ValueError: a window has no area.
    """
    sides = np.asarray(scales, np.float64)
    pixels = sides**2 * areas(windows)[:, None] / min(image_size) ** 2  # [P, S]
    return np.abs(pixels - TRAINED_SIDE**2).argmin(axis=1)


def choose_scale_released(
    windows: NDArray,
    image_size: tuple[int, int],
    scales: tuple[int, ...],
    standard_side: int = RELEASED_SIDE,
) -> NDArray[np.int64]:
    """The scale nearest to the one that gives a window the standard side (released code).

    That scale, ``standard_side * shorter side / sqrt(area)``, is first rounded to whole pixels,
    halves up. The standard side is the number of cells along a 224-pixel image's conv5 map, times
    the network's stride. Other arguments, result and errors: see ``choose_scale_paper``.
    """
    sides = np.asarray(scales, np.float64)
    exact = standard_side * min(image_size) / np.sqrt(areas(windows))
    wanted = np.floor(exact + 0.5)
    return np.abs(sides - wanted[:, None]).argmin(axis=1)


def areas(windows: NDArray) -> NDArray[np.float64]:
    """Areas ``(P,)`` of windows ``(P, 4)``.

    Raises:
        ValueError: a window has no area.
    """
    x1, y1, x2, y2 = np.asarray(windows, np.float64).reshape(-1, 4).T
    empty = (x2 <= x1) | (y2 <= y1)
    if empty.any():
        number = int(empty.argmax())
        raise ValueError(
            f"windows must have x2 > x1 and y2 > y1, window {number} is {windows[number].tolist()}"
        )
    return (x2 - x1) * (y2 - y1)
