"""An image's annotation, from any format, and the checks and repairs of its boxes.

Readers of all formats return ``Annotation``s without repairs. Here, faulty boxes are repaired or
dropped, and counted; other faults are errors that name the file.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detection.boxes import clip_boxes, from_voc
from detection.data.records import ImageRecord
from files.names import folded

SWAPPED = "corners in the wrong order, swapped"
CLIPPED = "box partly outside the image, clipped"
MOSTLY_OUTSIDE = "box mostly outside the image (drawn on another version of it?), dropped"
DROPPED = "box wholly outside the image, dropped"
NO_AREA = "box without area, dropped"
NO_FLAG = "difficult neither 0 nor 1 but Unspecified, taken as 0"
# A box is dropped if clipping would remove more than this share of its area.
SLIP = 0.5
# A relative coordinate may be this far outside 0..1, from rounding or a line drawn at the edge.
SLACK = 0.01
# Relative coordinates are written with six decimals, so further decimals of a pixel are rounding.
PIXEL_DECIMALS = 2

Unit = Literal["voc", "pixels", "shares"]


@dataclass(frozen=True)
class Annotation:
    """One image's annotation as it is in the file, without repairs.

    Attributes:
        source: the file and, if it has many images, the position in it, for messages.
        size: (height, width); None if it is missing or zero.
        names: class names of the N objects.
        corners: ``(N, 4)`` float64 x1, y1, x2, y2 in ``unit``, in either order.
        difficult: ``(N,)`` bool.
        unit: of the corners. 'voc': pixels counted from 1, both corners inside the box; 'pixels':
            half-open pixels; 'shares': half-open, relative to the image's width and height, 0..1.
        mended: the kinds of repairs made during reading, one entry per repair.
    """

    source: str
    size: tuple[int, int] | None
    names: tuple[str, ...]
    corners: NDArray[np.float64]
    difficult: NDArray[np.bool_]
    unit: Unit = "voc"
    mended: tuple[str, ...] = ()

    def having(self, wanted: Callable[[str], bool]) -> "Annotation":
        """The annotation with only the objects of the wanted classes."""
        kept = np.array([wanted(name) for name in self.names], np.bool_)
        names = tuple(name for name in self.names if wanted(name))
        corners, difficult = self.corners[kept], self.difficult[kept]
        return replace(self, names=names, corners=corners, difficult=difficult)


def check_pixels(annotations: Sequence[Annotation], file: str) -> None:
    """Check that the corners in a file are pixels.

    Raises:
        ValueError: all boxes of an image, or more than half of the boxes of the file, are within
            0..1 and have fractions.
    """
    within = [
        ((each.corners >= -SLACK) & (each.corners <= 1 + SLACK)).all(axis=1) for each in annotations
    ]
    parts = [
        bool((each.corners[those] % 1).any())
        for each, those in zip(annotations, within, strict=True)
    ]
    where = ""
    if any(parts) and 2 * sum(map(np.sum, within)) > sum(each.size for each in within):
        where = file
    for each, those, part in zip(annotations, within, parts, strict=True):
        if part and those.all():
            where = where or each.source
    if where:
        raise ValueError(
            f"{where} has corners of boxes between 0 and 1, which look like relative coordinates "
            "(as in YOLO's format); expected pixels: multiply x by the image's width, y by its "
            "height"
        )


def mend_boxes(
    corners: NDArray[np.float64], size: tuple[int, int], unit: Unit = "voc"
) -> tuple[NDArray[np.float32], NDArray[np.bool_], Counter[str]]:
    """Half-open boxes inside an image of ``size`` (height, width).

    Args:
        corners: ``(N, 4)`` x1, y1, x2, y2, in either order.
        size: (height, width) of the image.
        unit: of the corners, as in ``Annotation``.

    Returns:
        Boxes ``(M, 4)`` with area above 0, a mask ``(N,)`` of the boxes kept, and the number of
        repairs by kind. A box is dropped if clipping would remove more than SLIP of its area.
    """
    ordered = np.concatenate(
        [np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1
    )
    boxes = _half_open(ordered, size, unit)
    clipped = clip_boxes(boxes, size)
    solid = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
    inside = np.all(clipped[:, 2:] > clipped[:, :2], axis=1)
    mostly = inside & (_areas(clipped) < (1 - SLIP) * _areas(boxes))
    kept = inside & ~mostly
    repairs = {
        SWAPPED: (ordered != corners).any(axis=1) & kept,
        CLIPPED: (clipped != boxes).any(axis=1) & kept,
        MOSTLY_OUTSIDE: mostly,
        DROPPED: ~inside & solid,
        NO_AREA: ~solid,
    }
    return clipped[kept], kept, +Counter({kind: int(hit.sum()) for kind, hit in repairs.items()})


def make_record(
    annotation: Annotation,
    image_id: str,
    path: Path,
    size: tuple[int, int],
    classes: Sequence[str],
) -> tuple[ImageRecord, Counter[str]]:
    """The record of an annotation, with its boxes repaired, and the number of repairs by kind.

    Args:
        annotation: as read from its file.
        image_id: the record's name.
        path: of the record's image, which is not opened.
        size: (height, width) to which the boxes are clipped.
        classes: names that labels index.

    Raises:
        ValueError: an object's class is not in ``classes``.
    """
    for name in annotation.names:
        if name not in classes:
            alike = [repr(other) for other in classes if folded(other) == folded(name)]
            raise ValueError(
                f"{annotation.source} has an object of class '{name}', which is none of the "
                f"classes {', '.join(classes)}"
                + (f"; is it {' or '.join(alike)}?" if alike else "")
            )
    boxes, kept, repairs = mend_boxes(annotation.corners, size, annotation.unit)
    repairs.update(annotation.mended)
    labels = np.array([classes.index(name) for name in annotation.names], np.int64)
    difficult = annotation.difficult[kept]
    return ImageRecord(image_id, path, size, boxes, labels[kept], difficult), repairs


def _half_open(
    ordered: NDArray[np.float64], size: tuple[int, int], unit: Unit
) -> NDArray[np.float32]:
    if unit == "voc":
        return from_voc(ordered)
    if unit == "shares":
        height, width = size
        ordered = (ordered * (width, height, width, height)).round(PIXEL_DECIMALS)
    return ordered.astype(np.float32)


def _areas(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.prod(boxes[:, 2:].astype(np.float64) - boxes[:, :2], axis=1)
