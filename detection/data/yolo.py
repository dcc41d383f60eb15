"""Reads YOLO's text files: one line per object, coordinates relative to the image's sides.

A line is ``class x y width height``, with the box's centre, or, for segmentations and rotated
boxes, ``class x1 y1 x2 y2 x3 y3 ...``; the box around these points is used. A class is a number;
its name is in ``data.yaml``, ``classes.txt`` or ``obj.names`` (``yolo_names``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detection.data.annotations import SLACK, Annotation
from detection.data.folder import DataFolder
from detection.data.source import Source, number
from detection.data.yolo_names import (
    NAME_LISTS,
    NamesFile,
    names_by_folder,
    names_files,
    read_names_file,
)
from detection.data.yolo_splits import listed_splits, yaml_splits
from files.text import read_lines

NAME = "YOLO's text files"
LABELS = "labels"
# So many numbers after the class are either three points, or a box with confidence and track.
TRACKED = 6


@dataclass(frozen=True)
class Line:
    """A line of labels.

    Attributes:
        where: file and line, for messages.
        label: the class's number.
        shares: the numbers after the class.
        whole: whether the last number is written without decimals.
    """

    where: str
    label: int
    shares: list[float]
    whole: bool


def yolo_files(folder: DataFolder) -> tuple[list[Path], list[Path]]:
    """Files that name classes, and files of labels."""
    labels = [
        path
        for path in folder.ending(".txt")
        if path.name not in NAME_LISTS and (LABELS in path.parts or folder.has_stem(path))
    ]
    return names_files(folder), labels


def read_yolo(folder: DataFolder) -> Source:
    """The annotations of a folder of images and YOLO's labels.

    An image with an empty file has no objects; an image without a file is not labelled.

    Raises:
        FileNotFoundError: there is no list of classes, or the image of a label is missing.
        ValueError: a file of classes or labels is invalid.
    """
    named, labels = yolo_files(folder)
    files = [read_names_file(folder, path) for path in named]
    names = names_by_folder(folder, files, labels)
    used = list(dict.fromkeys(file.path for file, _ in names.values()))
    by_yaml, lists = yaml_splits(folder, [file for file in files if file.path in used])
    splits = listed_splits(folder, [*labels, *lists]) | by_yaml
    source = Source(folder, f"{NAME} ({', '.join(map(str, used))})", splits=splits)
    read = {path: _lines(folder.root / path) for path in labels}
    plain = (lines for path, lines in read.items() if not names[path.parent][0].keypoints)
    _refuse_tracks([line for lines in plain for line in lines])
    for path, lines in read.items():
        image = folder.image_of(path)
        if image is None:
            raise FileNotFoundError(
                f"there is no image of the labels {folder.root / path} below {folder.root}; "
                + (folder.hint(path.stem) or "add it, or take the labels away")
            )
        source.add(image, _annotation(folder.root / path, lines, *names[path.parent], folder.root))
    return source


def _lines(path: Path) -> list[Line]:
    lines = []
    for count, text in read_lines(path):
        where, fields = f"{path} line {count}", text.split()
        numbers = [number(field, where, "a field") for field in fields]
        if not numbers[0].is_integer() or numbers[0] < 0:
            raise ValueError(f"{where} begins with {fields[0]}; expected a class's number")
        lines.append(Line(where, int(numbers[0]), numbers[1:], fields[-1].isdecimal()))
    return lines


def _refuse_tracks(lines: Sequence[Line]) -> None:
    """Refuse detections with tracks, which look like triangles whose last number is an integer.

    Raises:
        ValueError: a line has a track number, or all lines except boxes may have one.
    """
    others = [line for line in lines if len(line.shares) != 4]
    tracked = [line for line in others if len(line.shares) == TRACKED and line.whole]
    sure = [line for line in tracked if line.shares[-1] > 1]
    if sure or (tracked and len(tracked) == len(others)):
        raise ValueError(
            f"{(sure or tracked)[0].where} has {TRACKED} numbers after its class, the last of them "
            "whole, which looks like a box with a confidence and a track number. Neither is part "
            "of a label: remove both; if it is a triangle, write it with a fourth point"
        )


def _annotation(
    path: Path, lines: Sequence[Line], file: NamesFile, names: Sequence[str], root: Path
) -> Annotation:
    corners = []
    for line in lines:
        if line.label >= len(names):
            raise ValueError(
                f"{line.where} has the class {line.label}, but {root / file.path} names "
                f"{len(names)}, of which the last is {len(names) - 1}; add the missing names"
            )
        shares = line.shares[:4] if file.keypoints else line.shares
        corners.append(_corners(shares, line.where))
    return Annotation(
        str(path),
        None,
        tuple(names[line.label] for line in lines),
        np.array(corners, np.float64).reshape(-1, 4),
        np.zeros(len(lines), np.bool_),
        "shares",
    )


def _corners(shares: Sequence[float], where: str) -> list[float]:
    """The box's corners, from a box's four numbers or from points."""
    outside = [share for share in shares if not -SLACK <= share <= 1 + SLACK]
    if outside:
        raise ValueError(
            f"{where} has {outside[0]:g}; expected shares of the image's width and height, from 0 "
            "to 1: divide pixels by width and height"
        )
    if len(shares) == 4:
        x, y, width, height = shares
        return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    if len(shares) < 6 or len(shares) % 2:
        raise ValueError(
            f"{where} has {len(shares)} numbers after its class; expected the 4 of a box, or x and "
            "y of three points or more (a label has no confidence, detections do)"
        )
    return [min(shares[::2]), min(shares[1::2]), max(shares[::2]), max(shares[1::2])]
