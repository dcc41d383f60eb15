"""Random views of training images: a crop, mirrored or not, with shifted colours (paper, 3.1)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from classification.config import Training

# Deviations of ImageNet's pixels of 0..255 along the principal axes of red, green and blue, and the
# axes as columns (for the shifts of Krizhevsky et al. 2012; the numbers are fb.resnet.torch's).
COLOUR_DEVIATIONS = 255 * np.array([0.2175, 0.0188, 0.0045])
COLOUR_AXES = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)

# Of an image longer than this many times its shorter side, only the middle is used. Otherwise an
# image of 12,000 x 40 pixels would have 100 million pixels after resizing.
LONGEST_ASPECT = 8


class View(NamedTuple):
    """A random view of an image.

    Attributes:
        top: first row of the region.
        left: first column of the region.
        flip: whether the region is mirrored.
        shift: ``(3,)`` float32, added to red, green and blue of 0..255.
    """

    top: int
    left: int
    flip: bool
    shift: NDArray[np.float32]


def resize_shorter(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """An image ``(H, W, 3)`` resized to a shorter side of ``side`` pixels, with its aspect ratio.

    Resizing is bilinear with antialiasing; smaller images are enlarged. Of an image longer than
    LONGEST_ASPECT times its shorter side, only the middle is used.
    """
    limit = LONGEST_ASPECT * min(pixels.shape[:2])
    top, left = (max(each - limit, 0) // 2 for each in pixels.shape[:2])
    pixels = pixels[top : top + limit, left : left + limit]
    height, width = pixels.shape[:2]
    scale = side / min(height, width)
    return resize(pixels, max(side, round(height * scale)), max(side, round(width * scale)))


def resize(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """An image ``(H, W, 3)`` resized to ``(height, width, 3)``."""
    if pixels.shape[:2] == (height, width):
        return pixels
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)


def draw_view(rng: np.random.Generator, height: int, width: int, settings: Training) -> View:
    """A random view of an image of this size, which must be at least the crop's."""
    down, right = height - settings.crop, width - settings.crop
    if settings.positions == "any":
        top, left = int(rng.integers(down + 1)), int(rng.integers(right + 1))
    else:
        corners = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
        top, left = corners[rng.integers(5)]
    flip = bool(rng.integers(2))
    along = rng.normal(0, settings.colour, 3) * COLOUR_DEVIATIONS
    return View(top, left, flip, (COLOUR_AXES @ along).astype(np.float32))


def centre_view(height: int, width: int, crop: int) -> View:
    """The centre crop of an image, neither mirrored nor shifted."""
    return View((height - crop) // 2, (width - crop) // 2, False, np.zeros(3, np.float32))


def cut(pixels: NDArray[np.uint8], view: View, crop: int, size: int) -> NDArray[np.uint8]:
    """The region ``(size, size, 3)`` of a view; the caller adds the shift, in floats."""
    region = pixels[view.top : view.top + crop, view.left : view.left + crop]
    region = resize(np.ascontiguousarray(region), size, size)
    return np.ascontiguousarray(region[:, ::-1]) if view.flip else region
