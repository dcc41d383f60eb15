"""One VOC annotation file: what it says, and its boxes mended."""

import math
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detection.boxes import clip_boxes, from_voc

SWAPPED = "corners in the wrong order, swapped"
CLIPPED = "box partly outside the picture, clipped"
DROPPED = "box wholly outside the picture, dropped"

GET_DATA = (
    "`python tools/get_data.py voc07` fetches VOC 2007, `--data.root` names another folder of data"
)


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
    """Parse one annotation file; nothing is checked against the picture or a class list.

    Only direct children of ``<object>`` are read: its ``<part>`` children have boxes of their own.
    """
    try:
        root = ET.parse(path).getroot()
    except FileNotFoundError:
        raise FileNotFoundError(f"no annotation at {path}; {GET_DATA}") from None
    except (ET.ParseError, LookupError, ValueError) as error:  # the latter two: its encoding
        raise ValueError(f"{path} is not valid XML ({error})") from error
    objects = root.findall("object")
    return Annotation(
        path,
        _annotated_size(path, root),
        tuple(_name(path, item) for item in objects),
        np.array([_corners(path, item) for item in objects], np.float64).reshape(-1, 4),
        np.array([_difficult(path, item) for item in objects], np.bool_),
    )


def mend_boxes(
    corners: NDArray[np.float64], size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], Counter[str]]:
    """Half-open boxes inside a picture of ``size`` (height, width), from VOC's corners.

    Args:
        corners: ``(N, 4)`` xmin, ymin, xmax, ymax, 1-based inclusive, in either order.
        size: (height, width) of the picture.

    Returns:
        Boxes ``(M, 4)`` with area above 0, which of the N they are ``(N,)``, repairs by kind.
    """
    ordered = np.concatenate(
        [np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1
    )
    boxes = from_voc(ordered)
    clipped = clip_boxes(boxes, size)
    kept = np.all(clipped[:, 2:] > clipped[:, :2], axis=1)
    repairs = {
        SWAPPED: (ordered != corners).any(axis=1) & kept,
        CLIPPED: (clipped != boxes).any(axis=1) & kept,
        DROPPED: ~kept,
    }
    return clipped[kept], kept, +Counter({kind: int(hit.sum()) for kind, hit in repairs.items()})


def _annotated_size(path: Path, root: ET.Element) -> tuple[int, int] | None:
    texts = [(root.findtext(f"size/{side}") or "0").strip() for side in ("height", "width")]
    height, width = (int(_number(path, "size", text)) for text in texts)
    return (height, width) if height > 0 and width > 0 else None


def _name(path: Path, item: ET.Element) -> str:
    name = (item.findtext("name") or "").strip()
    if not name:
        raise ValueError(f"{path} has an object without a <name>")
    return name


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
