"""Draws one image: textured objects on a textured background, and their boxes."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from detection.data.synthetic.shapes import SHAPES, Patch, draw_object, draw_scrap
from detection.data.synthetic.textures import GROUNDS, coloured, two_colours

CLASSES = tuple(SHAPES)
SUPERSAMPLE = 2  # drawn this many times larger, then averaged, for smooth outlines
IMAGE_SIDES = (300, 420)
OBJECT_SIDES = (28, 250)
LEAST_VISIBLE = 0.3  # smallest visible share of an object's area
EASY_VISIBLE = 0.5  # an object with a smaller visible share is difficult
EASY_SIDE = 32  # pixels; an object whose box has a shorter longer side is difficult


@dataclass(frozen=True)
class Scene:
    """A drawn image and its objects.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB.
        names: classes of the N objects.
        boxes: ``(N, 4)`` float32, half-open whole pixels around the visible part of each object.
        difficult: ``(N,)`` bool: less than half is visible, or the object is tiny.
        truncated: ``(N,)`` bool: cut by the image's border or partly hidden.
    """

    image: NDArray[np.uint8]
    names: tuple[str, ...]
    boxes: NDArray[np.float32]
    difficult: NDArray[np.bool_]
    truncated: NDArray[np.bool_]


@dataclass
class _Placed:
    """An object on the canvas: its class, its whole area, and the mask of its visible part."""

    name: str
    area: int
    seen: NDArray[np.bool_]

    @property
    def area_seen(self) -> int:
        """Number of visible pixels."""
        return int(self.seen.sum())


def render_scene(rng: Generator, names: tuple[str, ...]) -> Scene:
    """An image of 300 to 420 pixels a side with objects of the classes ``names``.

    Objects are drawn in this order, so later ones may hide earlier ones. An object is left out if,
    after a few tries, every position would hide another object too much.
    """
    size = (int(rng.integers(*IMAGE_SIDES)), int(rng.integers(*IMAGE_SIDES)))
    canvas = _ground(rng, size).repeat(SUPERSAMPLE, axis=0).repeat(SUPERSAMPLE, axis=1)
    for _ in range(int(rng.integers(4, 11))):
        _lay(rng, canvas, draw_scrap(rng, int(rng.integers(10, 70)) * SUPERSAMPLE), [])
    placed: list[_Placed] = []
    for name in names:
        side = np.exp(rng.uniform(*np.log(OBJECT_SIDES)))
        side = min(side, 0.7 * min(size))
        patch = draw_object(rng, name, int(side * SUPERSAMPLE))
        _lay(rng, canvas, patch, placed, name)
    if rng.random() < 0.3:
        _lay(rng, canvas, draw_scrap(rng, int(rng.integers(40, 110)) * SUPERSAMPLE), placed)
    return _scene(canvas, placed)


def _ground(rng: Generator, size: tuple[int, int]) -> NDArray[np.float32]:
    """A texture in muted colours; half of the images have a second one above a horizon."""
    ground = _texture(rng, size)
    if rng.random() < 0.5:
        horizon, slope = size[0] * rng.uniform(0.25, 0.6), rng.uniform(-0.15, 0.15)
        y, x = np.indices(size, dtype=np.float32)
        beyond = np.clip(horizon + slope * x - y, 0, 1)[..., None]
        ground += beyond * (_texture(rng, size) - ground)
    return ground


def _texture(rng: Generator, size: tuple[int, int]) -> NDArray[np.float32]:
    texture = GROUNDS[int(rng.integers(len(GROUNDS)))]
    colours = two_colours(rng, contrast=rng.uniform(0.12, 0.3), saturation=0.6)
    return coloured(texture(rng, size), colours)


def _lay(
    rng: Generator,
    canvas: NDArray[np.float32],
    patch: Patch,
    placed: list[_Placed],
    name: str | None = None,
) -> None:
    """Draw a patch and its shadow where it hides no object too much; a name makes it an object."""
    for _ in range(20):
        window, part = _place(rng, patch.mask.shape, canvas.shape[:2])
        mask = patch.mask[part]
        if mask.sum() < EASY_VISIBLE * patch.mask.sum():
            continue
        left = [other.area_seen - (other.seen[window] & mask).sum() for other in placed]
        if all(n >= LEAST_VISIBLE * other.area for n, other in zip(left, placed, strict=True)):
            break
    else:
        return
    _shade(canvas, window, mask)
    canvas[window][mask] = patch.colour[part][mask]
    for other in placed:
        other.seen[window] &= ~mask
    if name is not None:
        seen = np.zeros(canvas.shape[:2], np.bool_)
        seen[window] = mask
        placed.append(_Placed(name, int(patch.mask.sum()), seen))


def _place(
    rng: Generator, shape: tuple[int, ...], canvas: tuple[int, ...]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """A random position, up to a quarter outside: slices of the canvas, and slices of the patch."""
    window, part = [], []
    for side, limit in zip(shape, canvas, strict=True):
        start = int(rng.integers(-side // 4, limit - side + side // 4 + 1))
        inside = slice(max(start, 0), min(start + side, limit))
        window.append(inside)
        part.append(slice(inside.start - start, inside.stop - start))
    return (window[0], window[1]), (part[0], part[1])


def _shade(
    canvas: NDArray[np.float32], window: tuple[slice, slice], mask: NDArray[np.bool_]
) -> None:
    """Draw a soft shadow to the lower right of the mask."""
    rows, columns = window
    shift, reach = 3 * SUPERSAMPLE, 12 * SUPERSAMPLE
    shadow = np.zeros((mask.shape[0] + reach, mask.shape[1] + reach), np.uint8)
    shadow[shift : shift + mask.shape[0], shift : shift + mask.shape[1]][mask] = 255
    blurred = Image.fromarray(shadow).filter(ImageFilter.BoxBlur(shift / 2))
    below = canvas[rows.start : rows.stop + reach, columns.start : columns.stop + reach]
    depth = np.asarray(blurred, np.float32)[: below.shape[0], : below.shape[1], None] / 255
    below *= 1 - 0.35 * depth


def _scene(canvas: NDArray[np.float32], placed: list[_Placed]) -> Scene:
    drawn = Image.fromarray(np.clip(np.rint(canvas), 0, 255).astype(np.uint8))
    boxes = np.array([_extent(item.seen) for item in placed], np.float32).reshape(-1, 4)
    seen = np.array([item.area_seen / item.area for item in placed])
    longer = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0)
    return Scene(
        np.asarray(drawn.reduce(SUPERSAMPLE)),
        tuple(item.name for item in placed),
        boxes,
        (seen < EASY_VISIBLE) | (longer < EASY_SIDE),
        seen < 1,
    )


def _extent(mask: NDArray[np.bool_]) -> list[int]:
    """Half-open box, in final pixels, of the canvas pixels under the mask."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    first = [columns[0] // SUPERSAMPLE, rows[0] // SUPERSAMPLE]
    return [*first, columns[-1] // SUPERSAMPLE + 1, rows[-1] // SUPERSAMPLE + 1]
