"""Reads COCO's JSON: one file for all images, or one per split."""

import json
import logging
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask

from detection.data.annotations import Annotation, check_pixels
from detection.data.folder import DataFolder
from detection.data.source import Source, as_size, flag, number, shown
from detection.data.split_names import split_word
from files.names import check_class_name
from files.text import read_text

NAME = "COCO's JSON"
PARTS = ("images", "annotations", "categories")

logger = logging.getLogger(__name__)


def coco_files(folder: DataFolder) -> tuple[list[Path], list[Path]]:
    """The JSON files of labels in COCO's format, and those of detections, which have scores.

    A file of labels has COCO's parts, or is cut off before the last part.
    """
    labels: list[Path] = []
    detections: list[Path] = []
    for path in folder.ending(".json"):
        text = read_text(folder.root / path)
        if _has_scores(text):
            detections.append(path)
        elif _is_coco(text):
            labels.append(path)
    return labels, detections


def _is_coco(text: str) -> bool:
    there = [f'"{part}"' in text for part in PARTS]
    return sum(there) == len(PARTS) or (any(there) and not text.rstrip().endswith(("}", "]")))


def _has_scores(text: str) -> bool:
    """Whether annotations have scores like detections; a score of 1 is ignored, as in some labels.

    Some labelling tools write a score of 1 for every label.
    """
    if '"score"' not in text:
        return False
    try:
        content = json.loads(text)
    except (RecursionError, ValueError):  # reading it gives the error
        return False
    entries = content.get("annotations") if isinstance(content, dict) else content
    entries = entries if isinstance(entries, list) else []
    found = [each for each in entries if isinstance(each, dict) and "image_id" in each]
    return any(isinstance(each.get("score"), float | int) and each["score"] != 1 for each in found)


def read_coco(folder: DataFolder) -> Source:
    """The annotations of all COCO files below a folder; files of detections are ignored.

    An image that a file lists without annotations has no objects. ``iscrowd`` and ``ignore`` make
    an object difficult. If a box is missing or has no area, the segmentation's box is used.

    Raises:
        FileNotFoundError: a listed image is missing.
        ValueError: a file is broken or inconsistent, or all files are detections.
    """
    files, scored = coco_files(folder)
    if scored:
        said = (
            f"{folder.root / scored[0]} holds detections and no labels, as its annotations have "
            "scores"
        )
        if not files:
            raise ValueError(
                f"{said}; add the file of the labels, or take the scores out to learn from "
                "detections"
            )
        logger.warning("%s; ignored", said)
    splits: dict[Path, str] = {}
    source = Source(folder, f"{NAME} ({', '.join(map(str, files))})", splits=splits)
    for path in files:
        split = split_word(path.stem) or folder.split_of(path)
        for image, annotation in _read_file(folder, path).items():
            source.add(image, annotation)
            if split is not None:
                splits[image] = split
    return source


def _read_file(folder: DataFolder, path: Path) -> dict[Path, Annotation]:
    where = str(folder.root / path)
    images, objects, categories = _parts(where, read_text(folder.root / path))
    names: dict[int | str | None, str] = {
        key: check_class_name("" if each.get("name") is None else str(each["name"]).strip(), where)
        for key, each in _by_id(categories, where, "category").items()
    }
    listed = _by_id(images, where, "image")
    of_image: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for each in objects:
        for field, known in (("image_id", listed), ("category_id", names)):
            if _key(each.get(field)) not in known:
                raise ValueError(
                    f"{where}: annotation {shown(each.get('id'))} has the {field} "
                    f"{shown(each.get(field))}, which none of its "
                    f"{'images' if field == 'image_id' else 'categories'} has"
                )
        of_image[_key(each["image_id"])].append(each)
    found = {}
    for key, entry in listed.items():
        name = str(entry.get("file_name") or "")
        annotation = _annotation(f"{where}, image '{name}'", entry, of_image[key], names)
        image = folder.image_named(name, where, path)
        if image in found:
            raise ValueError(f"{where} lists the image '{name}' twice; keep one entry")
        found[image] = annotation
    check_pixels(list(found.values()), where)
    return found


def _parts(where: str, text: str) -> list[Sequence[Mapping[str, Any]]]:
    try:
        content = json.loads(text)
    except (RecursionError, ValueError) as error:
        raise ValueError(
            f"{where} is not valid JSON ({error}); export it again: it may be cut off"
        ) from error
    parts: list[Sequence[Mapping[str, Any]]] = []
    for part in PARTS:
        entries = content.get(part) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
            raise ValueError(f"{where} has no list '{part}' of objects, as COCO's JSON has")
        parts.append(entries)
    return parts


def _by_id(
    entries: Sequence[Mapping[str, Any]], where: str, what: str
) -> dict[int | str, Mapping[str, Any]]:
    found: dict[int | str, Mapping[str, Any]] = {}
    for entry in entries:
        key = _key(entry.get("id"))
        if key is None or key in found:
            given = shown(entry.get("id"))
            if key in found and found[key]["id"] != entry["id"]:
                given = f"{shown(found[key]['id'])}, also written {given},"
            raise ValueError(f"{where} has the {what} id {given} twice, or it is not an id")
        found[key] = entry
    return found


def _key(given: Any) -> int | str | None:
    """An id; 1, 1.0, "1" and "001" are all the integer 1. None if the value is not an id."""
    if isinstance(given, float) and given.is_integer():
        return int(given)
    if isinstance(given, str) and re.fullmatch(r"-?\d{1,19}", given, re.ASCII):
        return int(given)
    return given if isinstance(given, int | str) and not isinstance(given, bool) else None


def _annotation(
    source: str,
    image: Mapping[str, Any],
    objects: Sequence[Mapping[str, Any]],
    names: Mapping[int | str | None, str],
) -> Annotation:
    size = as_size(image.get("height"), image.get("width"), source)
    boxes = [_box(each, size, source) for each in objects]
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    return Annotation(
        source,
        size,
        tuple(names[_key(each["category_id"])] for each in objects),
        corners,
        np.array([_difficult(each, source) for each in objects], np.bool_),
        "pixels",
    )


def _difficult(entry: Mapping[str, Any], source: str) -> bool:
    flags = [flag(entry.get(name), source, f"'{name}'") for name in ("iscrowd", "ignore")]
    return any(flags)


def _box(entry: Mapping[str, Any], size: tuple[int, int] | None, source: str) -> list[float]:
    """x, y, width, height of an object."""
    box, outline = entry.get("bbox"), entry.get("segmentation")
    without_area = isinstance(box, list) and 0 in box[2:]
    if (not box or without_area) and isinstance(outline, list | dict) and any(outline):
        return _box_of_outline(outline, size, f"{source}, annotation {shown(entry.get('id'))}")
    if not isinstance(box, list) or len(box) != 4:
        raise ValueError(
            f"{source}: annotation {shown(entry.get('id'))} has the bbox {shown(box)}; expected x, "
            "y, width, height, or a segmentation to take the box from"
        )
    return [number(each, source, "a bbox's value") for each in box]


def _box_of_outline(outline: Any, size: tuple[int, int] | None, source: str) -> list[float]:
    """The box x, y, width, height around polygons, or around COCO's encoded mask."""
    try:
        if isinstance(outline, dict):
            given = outline.get("size") or size
            if given is None or size not in (None, tuple(given)):
                raise ValueError("its size is not the image's, or is missing")
            height, width = given
            packed = {"size": [height, width], "counts": outline["counts"]}
            if isinstance(outline["counts"], list):
                packed = mask.frPyObjects(packed, height, width)
            return [float(each) for each in mask.toBbox(packed)]
        points = np.concatenate([np.array(part, np.float64).reshape(-1, 2) for part in outline])
        low, high = points.min(axis=0), points.max(axis=0)
    except Exception as error:  # pycocotools raises many kinds of errors
        raise ValueError(
            f"{source} has a segmentation that is neither polygons nor COCO's mask ({error})"
        ) from error
    return [number(each, source, "a segmentation") for each in (*low, *(high - low))]
