"""One VOC annotation file: what it says, and its boxes mended."""

import math
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detection.boxes import clip_boxes, from_voc
from files.names import check_class_name
from files.text import read_xml

SWAPPED = "corners in the wrong order, swapped"
CLIPPED = "box partly outside the image, clipped"
MOSTLY_OUTSIDE = "box mostly outside the image (drawn on another version of it?), dropped"
DROPPED = "box wholly outside the image, dropped"
# The part of a box that may be cut away as a slip.
SLIP = 0.5


@dataclass(frozen=True)
class Annotation:
    """One annotation file as it stands, nothing mended.

    Attributes:
        path: the XML file.
        size: (height, width), None where the file gives none or zero.
        names: class names of the N objects.
        corners: ``(N, 4)`` float64 xmin, ymin, xmax, ymax, 1-based inclusive.
        difficult: ``(N,)`` bool.
    """

    path: Path
    size: tuple[int, int] | None
    names: tuple[str, ...]
    corners: NDArray[np.float64]
    difficult: NDArray[np.bool_]


def read_annotation(path: Path) -> Annotation:
    """Parse one annotation file; nothing is checked against the image or a class list.

    Only direct children of ``<object>`` are read: its ``<part>`` children have boxes of their own.
    Namespaces are passed over.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no VOC annotation, a field is missing or wrong, or the corners are
            relative ones.
    """
    root = read_xml(path)
    for item in root.iter():
        item.tag = item.tag.rpartition("}")[2]
    if root.tag != "annotation":
        raise ValueError(f"{path} begins with <{root.tag}>; expected VOC's <annotation>")
    objects = _objects(path, root)
    return Annotation(
        path,
        _annotated_size(path, root),
        tuple(_name(path, item) for item in objects),
        _all_corners(path, objects),
        np.array([_difficult(path, item) for item in objects], np.bool_),
    )


def mend_boxes(
    corners: NDArray[np.float64], size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], Counter[str]]:
    """Half-open boxes inside an image of ``size`` (height, width), from VOC's corners.

    Args:
        corners: ``(N, 4)`` xmin, ymin, xmax, ymax, 1-based inclusive, in either order.
        size: (height, width) of the image.

    Returns:
        Boxes ``(M, 4)`` with area above 0, which of the N they are ``(N,)``, repairs by kind. A box
        of which more than SLIP would be cut away is dropped: that mends nothing.
    """
    ordered = np.concatenate(
        [np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1
    )
    boxes = from_voc(ordered)
    clipped = clip_boxes(boxes, size)
    inside = np.all(clipped[:, 2:] > clipped[:, :2], axis=1)
    mostly = inside & (_areas(clipped) < (1 - SLIP) * _areas(boxes))
    kept = inside & ~mostly
    repairs = {
        SWAPPED: (ordered != corners).any(axis=1) & kept,
        CLIPPED: (clipped != boxes).any(axis=1) & kept,
        MOSTLY_OUTSIDE: mostly,
        DROPPED: ~inside,
    }
    return clipped[kept], kept, +Counter({kind: int(hit.sum()) for kind, hit in repairs.items()})


def _areas(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.prod(boxes[:, 2:].astype(np.float64) - boxes[:, :2], axis=1)


def _objects(path: Path, root: ET.Element) -> list[ET.Element]:
    """The ``<object>`` children; one written otherwise or elsewhere would vanish in silence."""
    objects = root.findall("object")
    meant = [item for item in root.iter() if item.tag.lower() == "object"]
    if len(meant) != len(objects):
        stray = next(item for item in meant if item not in objects)
        raise ValueError(
            f"{path} has <{stray.tag}> where VOC has none; expected <object>, directly in "
            "<annotation>"
        )
    return objects


def _annotated_size(path: Path, root: ET.Element) -> tuple[int, int] | None:
    texts = [(root.findtext(f"size/{side}") or "0").strip() for side in ("height", "width")]
    height, width = (int(_number(path, "size", text)) for text in texts)
    return (height, width) if height > 0 and width > 0 else None


def _name(path: Path, item: ET.Element) -> str:
    name = (item.findtext("name") or "").strip()
    if not name:
        raise ValueError(f"{path} has an object without a <name>")
    return check_class_name(name, str(path))


def _all_corners(path: Path, objects: list[ET.Element]) -> NDArray[np.float64]:
    """Corners ``(N, 4)``, which must be pixels."""
    corners = np.array([_corners(path, item) for item in objects], np.float64).reshape(-1, 4)
    relative = (corners >= 0) & (corners <= 1)
    if relative.all() and (corners % 1).any():
        raise ValueError(
            f"{path} has the corners of all boxes between 0 and 1, as relative coordinates (YOLO's "
            "style) are; expected pixels: multiply x by the image's width, y by its height"
        )
    return corners


def _corners(path: Path, item: ET.Element) -> list[float]:
    box = item.find("bndbox")
    if box is None:
        raise ValueError(f"{path} has an object '{_name(path, item)}' without a <bndbox>")
    fields = ("xmin", "ymin", "xmax", "ymax")
    return [_number(path, field, box.findtext(field) or "") for field in fields]


def _number(path: Path, field: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{path} has '{text}' for <{field}>; expected a number")
    return value


def _difficult(path: Path, item: ET.Element) -> bool:
    text = (item.findtext("difficult") or "").strip()
    if text not in ("", "0", "1"):
        raise ValueError(f"{path} has '{text}' for <difficult>; expected 0 or 1")
    return text == "1"
