"""Views of an image: crops, the whole image, and their flips (paper, sections 3.1.4 and 3.1.5).

The image is first resized, with its aspect ratio. Views of the kinds ``multi`` are not cut out:
the network computes a map of the image and of its flip at each scale, and the views are pooled from
these maps.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from classification.augmentation import resize_shorter

ViewKind = Literal["centre", "ten", "full", "full+flip", "multi", "multi+full"]

# The paper's training size, and its scales for many views.
PAPER_SIZE = 224
PAPER_SCALES = (224, 256, 300, 360, 448, 560)

Corner = tuple[int, int]


@dataclass(frozen=True)
class Input:
    """A resized image for the trunk, and the views to pool from its map.

    Attributes:
        pixels: ``(H, W, 3)`` uint8 RGB, resized.
        whole: whether the whole map is a view.
        corners: (top, left) pixels of views of the training size.
    """

    pixels: NDArray[np.uint8]
    whole: bool = True
    corners: tuple[Corner, ...] = ()


def in_proportion(side: int, crop: int) -> int:
    """A side in pixels from the paper, scaled from its training size 224 to ``crop``."""
    return (2 * side * crop + PAPER_SIZE) // (2 * PAPER_SIZE)


def corners_of(size: tuple[int, int], crop: int, count: Literal[1, 5, 9]) -> tuple[Corner, ...]:
    """(top, left) of crops: the centre (1), also the corners (5), also the middles of sides (9).

    If a side of the image is as long as the crop, some crops coincide and count once: nine become
    three.

    Args:
        size: (height, width) of the image, neither below ``crop``.
        crop: side of the crops.
        count: number of crops in a larger image.
    """
    tops, lefts = ((0, (side - crop) // 2, side - crop) for side in size)
    places = {
        1: [(tops[1], lefts[1])],
        5: [*product(tops[::2], lefts[::2]), (tops[1], lefts[1])],
        9: list(product(tops, lefts)),
    }
    return tuple(dict.fromkeys(places[count]))


def inputs_of(image: NDArray[np.uint8], views: ViewKind, crop: int, size: int) -> list[Input]:
    """The inputs of the trunk for the views of an image.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        views: ``centre`` crop; ``ten``: corners and centre with their flips; ``full`` image;
            ``full+flip``; ``multi``: up to 18 views at each of six scales, 96 in all, from maps;
            ``multi+full``: these, and the full image with its flip.
        crop: the training size.
        size: the shorter side of the image for crops and the full image.
    """
    if views.startswith("multi"):
        scales = {in_proportion(scale, crop): True for scale in PAPER_SCALES}
        if views == "multi+full":
            scales.setdefault(size, False)
        return [
            Input(pixels, views == "multi+full" and scale == size, found)
            for scale, cropped in scales.items()
            for pixels, found in _mirrored(resize_shorter(image, scale), crop, cropped)
        ]
    pixels = resize_shorter(image, size)
    if views.startswith("full"):
        return [Input(each) for each in (pixels, pixels[:, ::-1])][: 1 + (views == "full+flip")]
    corners = corners_of(pixels.shape[:2], crop, 1 if views == "centre" else 5)
    crops = [pixels[top : top + crop, left : left + crop] for top, left in corners]
    flips = [each[:, ::-1] for each in crops] if views == "ten" else []
    return [Input(each) for each in crops + flips]


def _mirrored(
    pixels: NDArray[np.uint8], crop: int, cropped: bool
) -> Iterator[tuple[NDArray[np.uint8], tuple[Corner, ...]]]:
    """An image and its flip, each with its views; the flip's views are flips of the image's."""
    height, width = pixels.shape[:2]
    corners = corners_of((height, width), crop, 9) if cropped else ()
    yield pixels, corners
    yield pixels[:, ::-1], tuple((top, width - crop - left) for top, left in corners)
