"""Draws detections on their image."""

import colorsys
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from detection.data.records import ImageRecord
from detection.detections import Detections
from detection.evaluation.fonts import fonts_of
from files.writing import write_atomic

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
GOLDEN_TURN = 0.6180339887498949

Colour = tuple[int, int, int]


def draw_detections(
    image: NDArray[np.uint8],
    detections: Detections,
    path: str | Path,
    *,
    ground_truth: ImageRecord | None = None,
    top: int = 20,
) -> None:
    """Draw the best detections on their image, each with its class and score.

    A class has one colour, and a font that has its letters. Detections with higher scores are on
    top. Ground truth is a thin dashed white line without a label.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        detections: in this image; may be empty.
        path: ends in .png, .jpg or .jpeg; replaced if it exists.
        ground_truth: the image's record, to draw its boxes too.
        top: draws at most this many detections, those with the highest scores.

    Raises:
        ValueError: the image has another shape or dtype, or the path another extension.
    """
    form = _format_of(path)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"expected an (H, W, 3) uint8 image, got {image.dtype} {image.shape}")
    canvas = Image.fromarray(np.ascontiguousarray(image))
    pen = ImageDraw.Draw(canvas)
    if ground_truth is not None:
        for box in ground_truth.boxes:
            _dashed_box(pen, box, canvas.size)
    kept = detections[np.argsort(-detections.scores, kind="stable")[:top][::-1]]
    stroke = max(2, round(max(canvas.size) / 250))
    files, height = fonts_of(tuple(detections.classes)), max(11, round(max(canvas.size) / 38))
    fonts = {
        name: ImageFont.truetype(files[name], height) for name in {name for _, name, _ in kept}
    }
    for box, label in zip(kept.boxes, kept.labels, strict=True):
        pen.rectangle(_corners(box, canvas.size), outline=class_colour(label), width=stroke)
    for (box, name, score), label in zip(kept, kept.labels, strict=True):
        _label(pen, f"{name} {score:.2f}", box, class_colour(label), fonts[name], canvas.size)
    with write_atomic(path) as file:
        canvas.save(file, format=form, **({"quality": 92} if form == "JPEG" else {}))


def class_colour(label: int) -> Colour:
    """An RGB colour for a class label: hues spread by the golden ratio, odd labels darker.

    Among 20 classes, the nearest hues are 13 labels apart, so one of the two is darker.
    """
    saturation, value = (0.75, 1.0) if label % 2 == 0 else (1.0, 0.65)
    red, green, blue = colorsys.hsv_to_rgb((label * GOLDEN_TURN) % 1.0, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _format_of(path: str | Path) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(f"expected a name in {', '.join(FORMATS)}, got {path}")
    return FORMATS[suffix]


def _corners(box: NDArray, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """First and last pixel of a half-open box, inside an image of ``size`` (width, height)."""
    last_x, last_y = size[0] - 1, size[1] - 1
    left, top = min(max(int(box[0]), 0), last_x), min(max(int(box[1]), 0), last_y)
    right = min(max(math.ceil(box[2]) - 1, left), last_x)
    return left, top, right, min(max(math.ceil(box[3]) - 1, top), last_y)


def _dashed_box(pen: ImageDraw.ImageDraw, box: NDArray, size: tuple[int, int]) -> None:
    left, top, right, bottom = _corners(box, size)
    outline = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    for (x1, y1), (x2, y2) in pairwise(outline):
        length = max(abs(x2 - x1), abs(y2 - y1), 1)
        for start in range(0, length, 8):
            # Black dashes between the white ones keep the line visible on white.
            for begin, colour in ((start, "white"), (start + 5, "black")):
                ends = (min(begin / length, 1.0), min((begin + 4) / length, 1.0))
                points = [(x1 + (x2 - x1) * end, y1 + (y2 - y1) * end) for end in ends]
                pen.line(points, fill=colour, width=1)


def _label(
    pen: ImageDraw.ImageDraw,
    text: str,
    box: NDArray,
    colour: Colour,
    font: ImageFont.FreeTypeFont,
    size: tuple[int, int],
) -> None:
    """Draw text on the class's colour, above the box or, at the image's edge, inside it."""
    left, top, _, _ = _corners(box, size)
    x1, y1, x2, y2 = pen.textbbox((0, 0), text, font=font)
    width, height = math.ceil(x2 - x1) + 6, math.ceil(y2 - y1) + 6
    left = max(0, min(left, size[0] - width))
    plate = top - height if top >= height else top
    pen.rectangle((left, plate, left + width - 1, plate + height - 1), fill=colour)
    bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140
    pen.text((left + 3 - x1, plate + 3 - y1), text, fill="black" if bright else "white", font=font)
