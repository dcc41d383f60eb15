"""Draws a contact sheet: many small annotated images with their boxes."""

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from detection.data.records import ImageRecord
from detection.evaluation.drawings import class_colour
from detection.evaluation.fonts import fonts_of
from files.images import read_image
from files.writing import write_atomic

TILE = 240  # pixels of a tile's longer side
GAP = 6
LETTERS = 14


def draw_contact_sheet(
    records: Sequence[ImageRecord], classes: tuple[str, ...], path: str | Path, columns: int = 6
) -> None:
    """Draw images with their boxes, one colour per class, into a PNG.

    Boxes of difficult objects have thin lines. The id of each image is below it; the classes are at
    the top in their colours.

    Args:
        records: the images, row by row.
        classes: names that labels index.
        path: ends in .png; replaced if it exists.
        columns: images per row.

    Raises:
        ValueError: another extension, or no image.
    """
    if Path(path).suffix.lower() != ".png" or not records:
        raise ValueError(f"a contact sheet needs a name in .png and at least one image, got {path}")
    columns = min(columns, len(records))
    cell = TILE + GAP, TILE + GAP + LETTERS
    legend, top = _legend(classes, columns * cell[0])
    height = top + cell[1] * math.ceil(len(records) / columns) + GAP
    sheet = Image.new("RGB", (columns * cell[0] + GAP, height), "white")
    sheet.paste(legend, (GAP, GAP))
    pen = ImageDraw.Draw(sheet)
    ids = tuple(record.image_id for record in records)
    fonts = fonts_of(ids)
    for place, record in enumerate(records):
        row, column = divmod(place, columns)
        left, upper = GAP + column * cell[0], top + row * cell[1]
        sheet.paste(_tile(record), (left, upper))
        font = ImageFont.truetype(fonts[record.image_id], LETTERS - 4)
        pen.text((left, upper + TILE), _shortened(record.image_id, font), "black", font)
    with write_atomic(path) as file:
        sheet.save(file, format="PNG")


def _tile(record: ImageRecord) -> Image.Image:
    image = Image.fromarray(read_image(record.path))
    scale = TILE / max(image.size)
    image = image.resize([max(round(side * scale), 1) for side in image.size])
    pen = ImageDraw.Draw(image)
    for box, label, hard in zip(record.boxes, record.labels, record.difficult, strict=True):
        x1, y1, x2, y2 = (float(value) * scale for value in box)
        corners = (x1, y1, max(x2 - 1, x1), max(y2 - 1, y1))
        pen.rectangle(corners, outline=class_colour(int(label)), width=1 if hard else 3)
    return image


def _legend(classes: tuple[str, ...], width: int) -> tuple[Image.Image, int]:
    """The classes in their colours, line by line, and the y coordinate where the images begin."""
    files = fonts_of(classes)
    words, x, y = [], 0.0, 0
    for label, name in enumerate(classes):
        font = ImageFont.truetype(files[name], LETTERS)
        length = font.getlength(name) + 2 * LETTERS
        if x and x + length > width:
            x, y = 0.0, y + LETTERS + GAP
        words.append((x, y, label, name, font))
        x += length
    legend = Image.new("RGB", (width, y + LETTERS + GAP), "white")
    pen = ImageDraw.Draw(legend)
    for left, upper, label, name, font in words:
        pen.rectangle((left, upper + 3, left + 9, upper + 12), fill=class_colour(label))
        pen.text((left + LETTERS, upper), name, "black", font)
    return legend, legend.height + 2 * GAP


def _shortened(text: str, font: ImageFont.FreeTypeFont) -> str:
    while len(text) > 4 and font.getlength(text) > TILE:
        text = f"…{text[2:]}"
    return text
