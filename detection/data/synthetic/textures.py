"""Textures and colours of the synthetic images, made only from a random generator.

A texture is an ``(H, W)`` float32 array in [0, 1] that mixes two colours. Every object and every
background has random colours, so colour does not reveal the class.
"""

import colorsys

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

Texture = NDArray[np.float32]


def fractal_noise(
    rng: Generator, shape: tuple[int, int], cell: float, stretch: float = 1.0
) -> Texture:
    """Smooth noise of three octaves, in [0, 1].

    Args:
        rng: source of the values.
        shape: (height, width) of the result.
        cell: side in pixels of the coarsest blob.
        stretch: ratio of the blobs' width to their height.
    """
    height, width = shape
    total = np.zeros(shape, np.float32)
    for octave in range(3):
        side = max(cell / 2**octave, 1.0)
        rows, columns = int(height / side) + 2, int(width / (side * stretch)) + 2
        grid = rng.random((rows, columns), np.float32)
        smooth = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(smooth) / 2**octave
    low, high = float(total.min()), float(total.max())
    return (total - low) / max(high - low, 1e-6)


def planks(rng: Generator, shape: tuple[int, int]) -> Texture:
    """Boards with a grain and dark gaps."""
    grain = fractal_noise(rng, shape, cell=12, stretch=8)
    height = rng.uniform(25, 55)
    row = (np.arange(shape[0], dtype=np.float32) + rng.uniform(0, height)) / height
    tone = rng.random(int(row.max()) + 1, np.float32)[row.astype(np.int64)]
    gap = (row % 1) < 0.05
    return np.clip(0.6 * grain + 0.4 * tone[:, None] - 0.5 * gap[:, None], 0, 1)


def weave(rng: Generator, shape: tuple[int, int]) -> Texture:
    """Crossing threads, slightly uneven."""
    period, angle = rng.uniform(6, 12), rng.uniform(0, np.pi)
    y, x = np.indices(shape, dtype=np.float32)
    along = (np.cos(angle) * x + np.sin(angle) * y) * (2 * np.pi / period)
    across = (np.cos(angle) * y - np.sin(angle) * x) * (2 * np.pi / period)
    threads = 0.5 + 0.25 * (np.sin(along) + np.sin(across))
    return np.clip(0.7 * threads + 0.3 * fractal_noise(rng, shape, cell=30), 0, 1)


def pebbles(rng: Generator, shape: tuple[int, int]) -> Texture:
    """Rounded stones, each of one tone, with dark gaps."""
    side = rng.uniform(12, 20)
    rows, columns = int(shape[0] / side) + 3, int(shape[1] / side) + 3
    centre_y, centre_x = rng.random((2, rows, columns), np.float32)
    tone = rng.random((rows, columns), np.float32)
    y, x = np.indices(shape, dtype=np.float32) / np.float32(side) + 1
    row, column = y.astype(np.int64), x.astype(np.int64)
    nearest = np.full(shape, np.inf, np.float32)
    second = nearest.copy()
    result = np.zeros(shape, np.float32)
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            at = (row + i, column + j)
            distance = np.hypot(y - at[0] - centre_y[at], x - at[1] - centre_x[at])
            result = np.where(distance < nearest, tone[at], result)
            second = np.minimum(second, np.maximum(nearest, distance))
            nearest = np.minimum(nearest, distance)
    return np.clip(0.25 + 0.75 * result, 0, 1) * np.clip((second - nearest) * 5, 0, 1)


def clouds(rng: Generator, shape: tuple[int, int]) -> Texture:
    """Soft blobs."""
    return fractal_noise(rng, shape, cell=rng.uniform(20, 80), stretch=rng.uniform(1, 3))


GROUNDS = (clouds, planks, weave, pebbles)


def two_colours(rng: Generator, contrast: float, saturation: float) -> NDArray[np.float32]:
    """Two RGB colours ``(2, 3)``, 0 to 255, dark one first.

    Args:
        rng: source of hues and brightness.
        contrast: difference of their brightness (HSV value), 0 to 0.7.
        saturation: greatest saturation, 0 to 1.
    """
    low = rng.uniform(0.25, 0.95 - contrast)
    hue = rng.random()
    pair = [
        colorsys.hsv_to_rgb(hue, rng.uniform(0.2, 1) * saturation, low),
        colorsys.hsv_to_rgb(
            hue + rng.uniform(-0.12, 0.12), rng.uniform(0.2, 1) * saturation, low + contrast
        ),
    ]
    return np.array(pair, np.float32) * 255


def coloured(texture: Texture, colours: NDArray[np.float32]) -> NDArray[np.float32]:
    """The texture as RGB ``(H, W, 3)``, 0 to 255: the first colour at 0, the second at 1."""
    return colours[0] + texture[..., None] * (colours[1] - colours[0])
