"""YOLO's text files: a line an object, as shares of the image; classes by number.

A line is ``class x y width height`` (the box's middle) or, of segmentation and turned boxes,
``class x1 y1 x2 y2 x3 y3 ...``, whose box is taken. The names are in ``data.yaml``, ``classes.txt``
or ``obj.names``.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from detection.data.annotations import Annotation
from detection.data.folder import DataFolder, split_word
from detection.data.source import Source, number
from files.names import check_class_name
from files.text import read_lines, read_text

NAME = "YOLO's text files"
NAME_LISTS = ("classes.txt", "obj.names")
LABELS = "labels"
# How far a share may be out of 0..1: the rounding of its decimals, or a line at the edge.
SLACK = 0.01


def yolo_files(folder: DataFolder) -> tuple[list[Path], list[Path]]:
    """Files that name classes, and files of labels; the latter without the former are none."""
    named = [path for path in folder.others if path.name in NAME_LISTS]
    for path in folder.ending(".yaml", ".yml"):
        if re.search(r"^names\s*:", read_text(folder.root / path), re.MULTILINE):
            named.insert(0, path)
    labels = [
        path
        for path in folder.ending(".txt")
        if path.name not in NAME_LISTS and (LABELS in path.parts or folder.image_of(path))
    ]
    return named, labels


def read_yolo(folder: DataFolder) -> Source:
    """The annotations of a folder of images and YOLO's labels.

    An image with an empty file has no objects; one without file is not labelled.

    Raises:
        FileNotFoundError: there is no list of classes, or a label's image is not there.
        ValueError: a file of classes or of labels is wrong.
    """
    named, labels = yolo_files(folder)
    if not named:
        raise FileNotFoundError(
            f"{folder.root} has YOLO's labels, such as {labels[0]}, but no data.yaml or "
            "classes.txt that names their classes; write classes.txt, one name a line"
        )
    names, keypoints = _class_names(folder, named)
    source = Source(folder, f"{NAME} ({named[0]})", splits=_listed_splits(folder))
    for path in labels:
        image = folder.image_of(path)
        if image is None:
            raise FileNotFoundError(
                f"there is no image of the labels {folder.root / path} below {folder.root}; add "
                "it, or take the labels away"
            )
        where = f"{folder.root / named[0]}"
        source.add(image, _read_labels(folder.root / path, names, where, keypoints=keypoints))
    return source


def _yaml(path: Path) -> dict[str, Any]:
    """A YAML file that is a mapping; empty for any other.

    Raises:
        ValueError: the file is no YAML.
    """
    try:
        content = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not valid YAML ({reason})") from error
    return content if isinstance(content, dict) else {}


def _class_names(folder: DataFolder, named: Sequence[Path]) -> tuple[list[str], bool]:
    """Names by number, and whether the labels have keypoints after the box.

    A YAML file outweighs lists, which must agree.
    """
    path = folder.root / named[0]
    if path.suffix.lower() in (".yaml", ".yml"):
        content = _yaml(path)
        given = content.get("names")
        if isinstance(given, dict):
            if set(given) != set(range(len(given))):
                raise ValueError(f"{path} names classes {list(given)}; expected 0, 1, 2 ...")
            given = [given[place] for place in range(len(given))]
        if not isinstance(given, list):
            raise ValueError(f"{path} has {given!r} for names; expected a list of classes")
        return [check_class_name(str(each), str(path)) for each in given], "kpt_shape" in content
    lists = [[line.strip() for _, line in read_lines(folder.root / each)] for each in named]
    for other, names in zip(named, lists, strict=True):
        if names != lists[0]:
            raise ValueError(
                f"{path} and {folder.root / other} name different classes; keep one of them"
            )
    return [check_class_name(each, str(path)) for each in lists[0]], False


def _listed_splits(folder: DataFolder) -> dict[Path, str]:
    """The splits of images by lists of their paths, such as ``train.txt``; none without lists."""
    splits: dict[Path, str] = {}
    for path in folder.ending(".txt"):
        split = split_word(path.stem)
        if split is None or LABELS in path.parts or folder.image_of(path):
            continue
        for count, line in read_lines(folder.root / path):
            name = line.strip().replace("\\", "/").removeprefix("./").removeprefix("data/")
            source = f"{folder.root / path} line {count}"
            splits[folder.image_named(name, source, path)] = split
    return splits


def _read_labels(path: Path, names: Sequence[str], named: str, *, keypoints: bool) -> Annotation:
    numbers, corners = [], []
    for count, line in read_lines(path):
        where = f"{path} line {count}"
        fields = [number(field, where, "a field") for field in line.split()]
        if not fields or not fields[0].is_integer() or fields[0] < 0:
            raise ValueError(f"{where} begins with {line.split()[0]}; expected a class's number")
        if fields[0] >= len(names):
            raise ValueError(
                f"{where} has the class {int(fields[0])}, but {named} names {len(names)}, of which "
                f"the last is {len(names) - 1}; add the missing names"
            )
        numbers.append(int(fields[0]))
        corners.append(_corners(fields[1:5] if keypoints else fields[1:], where))
    return Annotation(
        str(path),
        None,
        tuple(names[each] for each in numbers),
        np.array(corners, np.float64).reshape(-1, 4),
        np.zeros(len(numbers), np.bool_),
        "shares",
    )


def _corners(shares: Sequence[float], where: str) -> list[float]:
    """The box's corners, of a box's four numbers or a line's points."""
    outside = [share for share in shares if not -SLACK <= share <= 1 + SLACK]
    if outside:
        raise ValueError(
            f"{where} has {outside[0]:g}; expected shares of the image's width and height, from 0 "
            "to 1: divide pixels by them"
        )
    if len(shares) == 4:
        x, y, width, height = shares
        return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    if len(shares) < 6 or len(shares) % 2:
        raise ValueError(
            f"{where} has {len(shares)} numbers after its class; expected 4 of a box, or x and y "
            "of three points or more (a confidence, as of detections, is no part of a label)"
        )
    return [min(shares[::2]), min(shares[1::2]), max(shares[::2]), max(shares[1::2])]
