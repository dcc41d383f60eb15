"""Reads one VOC annotation file, without repairs."""

import math
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np

from detection.data.annotations import NO_FLAG, Annotation, check_pixels
from detection.data.source import flag
from files.names import check_class_name
from files.text import read_xml

# makesense.ai writes this for a flag, like scripts that copy it from VOC's <pose>.
UNSPECIFIED = "unspecified"


def read_annotation(path: Path) -> Annotation:
    """Parse one annotation file, without checks against the image or a list of classes.

    Only direct children of ``<object>`` are read, because its ``<part>`` children have their own
    boxes. Namespaces are ignored.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is not a VOC annotation, a field is missing or invalid, or the corners
            are relative.
    """
    root = read_xml(path)
    for item in root.iter():
        item.tag = item.tag.rpartition("}")[2]
    if root.tag != "annotation":
        raise ValueError(f"{path} begins with <{root.tag}>; expected VOC's <annotation>")
    objects = _objects(path, root)
    corners = [_corners(path, item) for item in objects]
    flags = [(item.findtext("difficult") or "").strip().lower() for item in objects]
    annotation = Annotation(
        str(path),
        _annotated_size(path, root),
        tuple(_name(path, item) for item in objects),
        np.array(corners, np.float64).reshape(-1, 4),
        np.array(
            [each != UNSPECIFIED and flag(each, str(path), "<difficult>") for each in flags],
            np.bool_,
        ),
        mended=(NO_FLAG,) * flags.count(UNSPECIFIED),
    )
    check_pixels([annotation], str(path))
    return annotation


def _objects(path: Path, root: ET.Element) -> list[ET.Element]:
    """The ``<object>`` children; objects elsewhere, or in other case, are an error, not ignored."""
    objects = root.findall("object")
    meant = [item for item in root.iter() if item.tag.lower() == "object"]
    if len(meant) != len(objects):
        stray = next(item for item in meant if item not in objects)
        raise ValueError(
            f"{path} has <{stray.tag}> where VOC's format has none; expected <object> directly in "
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
