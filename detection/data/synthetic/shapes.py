"""The objects in the synthetic images: each class is a shape with its own texture.

Shapes are formulas on a grid (u, v) that is rotated by the object's angle and extends from -1 to 1
along the object. So no artwork is stored, and every object is different.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from detection.data.synthetic.textures import Texture, coloured, fractal_noise, two_colours


@dataclass(frozen=True)
class Patch:
    """Something to draw on an image.

    Attributes:
        colour: ``(h, w, 3)`` float32 RGB, 0 to 255.
        mask: ``(h, w)`` bool, where the patch is opaque; extends to all four sides.
    """

    colour: NDArray[np.float32]
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Surface:
    """A shape on its grid.

    Attributes:
        depth: ``(h, w)``, above 0 inside, falling to 0 at the outline.
        texture: ``(h, w)`` in [0, 1], mixes the object's two colours.
        light: ``(h, w)``, factor of brightness.
    """

    depth: Texture
    texture: Texture
    light: Texture


def ball(rng: Generator, u: Texture, v: Texture) -> Surface:
    """A sphere with a chequered surface, lit from one side."""
    radius = np.hypot(u, v)
    front = np.sqrt(np.clip(1 - radius**2, 0, 1))
    panels = rng.integers(3, 5)
    longitude = np.floor((np.arctan2(u, front) / np.pi + 0.5) * 2 * panels)
    latitude = np.floor((np.arcsin(np.clip(v, -1, 1)) / np.pi + 0.5) * panels)
    side = rng.uniform(-0.5, 0.5)
    return Surface(1 - radius, (longitude + latitude) % 2, 0.55 + 0.6 * front - 0.3 * side * u)


def brick(rng: Generator, u: Texture, v: Texture) -> Surface:
    """A piece of wall: rows of bricks set off by half, pale mortar between them."""
    height, rows = rng.uniform(0.5, 0.75), int(rng.integers(3, 6))
    row = np.floor((v / height + 1) / 2 * rows)
    y = (v / height + 1) / 2 * rows - row
    x = (u + 1) / 2 * rows / (2 * height) + 0.5 * (row % 2)
    mortar = (y < 0.18) | (x % 1 < 0.09)
    tones = rng.uniform(0.0, 0.35, (16, 16)).astype(np.float32)
    tone = tones[row.astype(np.int64) % 16, np.floor(x).astype(np.int64) % 16]
    depth = np.minimum(1 - np.abs(u), height - np.abs(v))
    return Surface(depth, np.where(mortar, 1, tone), np.ones_like(u))


def leaf(rng: Generator, u: Texture, v: Texture) -> Surface:
    """Two arcs that meet in points, with a midrib and slanting veins."""
    width = rng.uniform(0.4, 0.6)
    depth = width * (1 - u**2) - np.abs(v)
    slant = u - rng.uniform(0.5, 0.9) * np.abs(v)
    veins = np.abs((slant * rng.uniform(3.5, 5.5)) % 1 - 0.5) < 0.13
    ribs = (np.abs(v) < 0.035) | veins
    light = np.where(v > 0, 0.85, 1.05)
    return Surface(np.where(np.abs(u) < 1, depth, -1), np.where(ribs, 1, 0.1), light)


def ring(rng: Generator, u: Texture, v: Texture) -> Surface:
    """A tilted, striped ring; the background is visible through its hole."""
    tilt, hole = rng.uniform(0.65, 1.0), rng.uniform(0.45, 0.6)
    radius, angle = np.hypot(u, v / tilt), np.arctan2(v / tilt, u)
    stripes = (angle / (2 * np.pi) * rng.integers(7, 12) + 0.15 * radius) % 1 < 0.5
    middle = (1 + hole) / 2
    round_off = 1 - ((radius - middle) / (1 - middle)) ** 2
    depth = np.minimum(1 - radius, radius - hole)
    return Surface(depth, stripes.astype(np.float32), 0.65 + 0.45 * np.clip(round_off, 0, 1))


def star(rng: Generator, u: Texture, v: Texture) -> Surface:
    """A speckled star with five points, each with a light and a dark side."""
    inner = rng.uniform(0.4, 0.5)
    turn = np.arctan2(v, u) / (2 * np.pi) * 5
    fold = np.abs((turn + 0.5) % 1 - 0.5) * 2  # 0 on a point, 1 between two
    angle = fold * np.pi / 5
    x, y = np.hypot(u, v) * np.cos(angle), np.hypot(u, v) * np.sin(angle)
    notch_x, notch_y = inner * np.cos(np.pi / 5), inner * np.sin(np.pi / 5)
    depth = (notch_y * (1 - x) - (1 - notch_x) * y) / np.hypot(notch_y, 1 - notch_x)
    speckle = fractal_noise(rng, u.shape, cell=max(len(u) / 12, 3)) > 0.58
    light = np.where((turn % 1) < 0.5, 1.1, 0.7)
    return Surface(depth, speckle.astype(np.float32), light)


SHAPES: dict[str, Callable[[Generator, Texture, Texture], Surface]] = {
    "ball": ball,
    "brick": brick,
    "leaf": leaf,
    "ring": ring,
    "star": star,
}
UPRIGHT = ("brick",)  # rotated by 20 degrees at most; the others have any angle


def draw_object(rng: Generator, name: str, side: int) -> Patch:
    """An object of class ``name``, about ``side`` pixels long, with random colours and angle."""
    angle = rng.uniform(-np.pi, np.pi) / (9 if name in UPRIGHT else 1)
    reach = 1.25  # the corners of a rotated brick are further out than half its length
    axis = np.linspace(-reach, reach, int(side * reach), dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    u = (np.cos(angle) * x + np.sin(angle) * y).astype(np.float32)
    v = (np.cos(angle) * y - np.sin(angle) * x).astype(np.float32)
    surface = SHAPES[name](rng, u, v)

    grain = 0.85 + 0.3 * fractal_noise(rng, u.shape, cell=max(side / 10, 3))
    rim = np.clip(0.45 + surface.depth * 12, 0, 1)
    colours = two_colours(rng, contrast=rng.uniform(0.4, 0.65), saturation=0.9)
    if rng.random() < 0.5:
        colours = colours[::-1]
    colour = coloured(surface.texture.astype(np.float32), colours)
    colour = colour * (surface.light * grain * rim)[..., None]
    return _trimmed(np.clip(colour, 0, 255).astype(np.float32), surface.depth > 0)


def draw_scrap(rng: Generator, side: int) -> Patch:
    """Clutter without a class: a stick, or a scrap with three or four corners, softly mottled."""
    axis = np.linspace(-1, 1, max(side, 6), dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    if rng.random() < 0.4:
        angle = rng.uniform(0, np.pi)
        mask = np.abs(np.cos(angle) * y - np.sin(angle) * x) < rng.uniform(0.03, 0.1)
        mask &= np.hypot(x, y) < 1
    else:
        mask = np.ones(x.shape, np.bool_)
        corners = int(rng.integers(3, 5))
        for angle in np.arange(corners) * 2 * np.pi / corners + rng.uniform(0, 2 * np.pi):
            tilt = angle + rng.uniform(-0.35, 0.35)
            mask &= np.cos(tilt) * x + np.sin(tilt) * y < rng.uniform(0.3, 0.6)
    colours = two_colours(rng, contrast=0.2, saturation=0.8)
    return _trimmed(coloured(fractal_noise(rng, x.shape, cell=max(side / 3, 3)), colours), mask)


def _trimmed(colour: NDArray[np.float32], mask: NDArray[np.bool_]) -> Patch:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    part = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    return Patch(colour[part], mask[part])
