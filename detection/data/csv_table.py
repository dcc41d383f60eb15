"""Reads CSV tables with a header and one row per object, as TensorFlow, Roboflow and VoTT write.

Such tables are made from VOC's XML, so the corners are VOC's: counted from 1, both inside the box.
"""

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path

import numpy as np

from detection.data.annotations import Annotation, check_pixels
from detection.data.folder import DataFolder
from detection.data.source import Source, as_size, number
from detection.data.split_names import split_word
from files.names import check_class_name
from files.text import read_text

NAME = "a CSV table"
CORNERS = ("xmin", "ymin", "xmax", "ymax")
# Names of a column; the second is VoTT's.
FILE, CLASS = ("filename", "image"), ("class", "label")

Row = Mapping[str, str | None]


def csv_files(folder: DataFolder) -> list[Path]:
    """The tables whose header has a column of corners."""
    return [
        path
        for path in folder.ending(".csv")
        if set(CORNERS) & set(_table(read_text(folder.root / path)).fieldnames or ())
    ]


def read_csv(folder: DataFolder) -> Source:
    """The annotations of the tables below a folder.

    Raises:
        FileNotFoundError: an image is missing.
        ValueError: a column is missing, or a row is invalid.
    """
    files = csv_files(folder)
    splits: dict[Path, str] = {}
    source = Source(folder, f"{NAME} ({', '.join(map(str, files))})", splits=splits)
    for path in files:
        split = split_word(path.stem) or folder.split_of(path)
        for image, annotation in _read_table(folder, path).items():
            source.add(image, annotation)
            if split is not None:
                splits[image] = split
    return source


def _table(text: str) -> "csv.DictReader[str]":
    header = text.partition("\n")[0]
    delimiter = ";" if header.count(";") > header.count(",") else ","
    table = csv.DictReader(StringIO(text, newline=""), delimiter=delimiter)
    try:
        names = table.fieldnames
    except csv.Error:  # no header, so not a table of annotations
        names = ()
    table.fieldnames = [name.strip().lower() for name in names or ()]
    return table


def _read_table(folder: DataFolder, path: Path) -> dict[Path, Annotation]:
    where = folder.root / path
    table = _table(read_text(where))
    columns = list(table.fieldnames or ())
    missing = [name for name in CORNERS if name not in columns]
    missing += [names[0] for names in (FILE, CLASS) if not set(names) & set(columns)]
    if missing:
        raise ValueError(
            f"{where} has no column {', '.join(missing)}; expected filename, class, xmin, ymin, "
            f"xmax, ymax (width and height are optional), got {', '.join(columns)}"
        )
    of_image: dict[Path, list[tuple[str, Row]]] = defaultdict(list)
    for row in _rows(table, where):
        source = f"{where} line {table.line_num}"
        name = (_field(row, FILE) or "").strip()
        of_image[folder.image_named(name, source, path)].append((source, row))
    found = {image: _annotation(rows) for image, rows in of_image.items()}
    check_pixels(list(found.values()), str(where))
    return found


def _rows(table: "csv.DictReader[str]", where: Path) -> Iterator[Row]:
    try:
        for row in table:
            if any(field.strip() for field in row.pop(None, None) or ()):
                raise ValueError(
                    f"{where} line {table.line_num} has more fields than the header; put quotation "
                    "marks around a name with a comma, and write numbers with decimal points"
                )
            yield row
    except csv.Error as error:
        raise ValueError(
            f"{where} line {table.line_num} is not a row of a table ({error}); look for a "
            "quotation mark without its partner"
        ) from error


def _field(row: Row, names: tuple[str, ...]) -> str | None:
    return next((row[name] for name in names if name in row), None)


def _annotation(rows: list[tuple[str, Row]]) -> Annotation:
    """The annotation from the rows of one image."""
    sizes = {as_size(row.get("height"), row.get("width"), source): source for source, row in rows}
    if len(sizes) > 1:
        first, second, *_ = sizes.values()
        raise ValueError(f"{first} and {second} give one image different sizes; make them agree")
    first_source = rows[0][0]
    corners = [[number(row[name], source, name) for name in CORNERS] for source, row in rows]
    return Annotation(
        first_source,
        next(iter(sizes)),
        tuple(check_class_name((_field(row, CLASS) or "").strip(), source) for source, row in rows),
        np.array(corners, np.float64),
        np.zeros(len(rows), np.bool_),
    )
