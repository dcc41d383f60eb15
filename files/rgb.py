"""Converts images of any mode to 8-bit RGB: scales deep grey values, makes transparency white."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def to_rgb(image: Image.Image) -> Image.Image:
    """A decoded image in mode RGB.

    Raises:
        ValueError: a grey value is not finite, or Pillow cannot convert the image's mode.
    """
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image).astype(np.float64)
        grey = _scaled(values, _whites(image))
        clear = image.info.get("transparency")
        if isinstance(clear, int):
            grey[values == clear] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _whites(image: Image.Image) -> tuple[float, ...]:
    """Values that may mean white in a deep grey image, in increasing order.

    For 16 bits it is the maximum of the type. For 32 bits and floats it is not known.
    """
    if image.mode == "F":
        return (1.0, 255.0, 65535.0)
    # Some versions of Pillow open 16 bits in the mode of 32.
    sixteen = image.mode.startswith("I;16") or image.format in ("PNG", "PPM")
    return (65535.0,) if sixteen else (255.0, 65535.0)


def _scaled(values: NDArray[np.float64], whites: tuple[float, ...]) -> NDArray[np.uint8]:
    """Grey values scaled to 8 bits, from 0 to the first of ``whites`` that no value exceeds.

    If there is none, or a value is below 0, the range of the values is used.

    Raises:
        ValueError: a value is not finite.
    """
    if not np.isfinite(values).all():
        raise ValueError("a grey value is not finite")
    low, high = min(float(values.min()), 0.0), float(values.max())
    if low >= 0:
        high = next((white for white in whites if high <= white), high)
    return np.asarray(np.rint((values - low) * (255 / max(high - low, 1e-12))), np.uint8)
