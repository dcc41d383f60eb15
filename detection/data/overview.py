"""Statistics of annotated images, to find problems before a long training."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.data.records import Dataset, ImageRecord
from files.writing import content_digest
from proposals.edge_boxes import EdgeBoxes
from proposals.methods import Proposals
from proposals.opencv import WORKING_SIDE
from proposals.selective_search import SelectiveSearch

# Smallest IoU with an object of a positive window, and of a correct detection.
ENOUGH = 0.5


@dataclass(frozen=True)
class ClassCount:
    """A class in a set of images.

    Attributes:
        name: of the class.
        objects: number of objects.
        difficult: number of objects marked difficult.
        images: number of images with such objects.
        size: median (height, width) of the boxes in pixels; (0, 0) without objects.
    """

    name: str
    objects: int
    difficult: int
    images: int
    size: tuple[int, int]


def count_classes(data: Dataset) -> list[ClassCount]:
    """Counts of each class, in the order of the data's classes."""
    found = []
    for label, name in enumerate(data.classes):
        boxes = [record.boxes[record.labels == label] for record in data.records]
        flags = [record.difficult[record.labels == label] for record in data.records]
        sides = np.concatenate([each[:, 2:] - each[:, :2] for each in boxes])
        width, height = np.median(sides, axis=0).round().astype(int) if len(sides) else (0, 0)
        difficult = sum(int(each.sum()) for each in flags)
        having = sum(len(each) > 0 for each in boxes)
        found.append(ClassCount(name, len(sides), difficult, having, (int(height), int(width))))
    return found


def duplicates(records: Sequence[ImageRecord]) -> list[list[str]]:
    """Ids of images whose files are the same, byte for byte."""
    same: dict[str, list[str]] = defaultdict(list)
    for record in records:
        same[content_digest(record.path)].append(record.image_id)
    return [image_ids for image_ids in same.values() if len(image_ids) > 1]


def repeated_boxes(records: Sequence[ImageRecord]) -> int:
    """Number of objects with the same box and class as another object of their image."""
    count = 0
    for record in records:
        keys = zip(record.labels.tolist(), map(tuple, record.boxes.tolist()), strict=True)
        count += sum(times - 1 for times in Counter(keys).values())
    return count


def out_of_reach(record: ImageRecord, proposals: Proposals) -> NDArray[np.bool_]:
    """Which objects ``(N,)`` are too small for any window to overlap them with an IoU of ENOUGH.

    The size of the smallest window refers to the searched image, which has at most WORKING_SIDE
    pixels per side.
    """
    scale = min(1.0, WORKING_SIDE / max(record.size))
    sides = (record.boxes[:, 2:] - record.boxes[:, :2]).astype(np.float64) * scale
    best = np.zeros(len(sides))
    for part in proposals.parts:
        if isinstance(part, SelectiveSearch):
            reached = np.prod(sides / np.maximum(sides, part.min_side), axis=1)
        elif isinstance(part, EdgeBoxes):
            reached = np.minimum(np.prod(sides, axis=1) / part.min_box_area, 1)
        else:  # imported windows may have any size
            reached = np.ones(len(sides))
        best = np.maximum(best, reached)
    return best < ENOUGH


def sample_of(records: Sequence[ImageRecord], count: int) -> list[ImageRecord]:
    """At most ``count`` images, in their order, evenly spread but with every class if possible."""
    chosen: list[int] = []
    seen: set[int] = set()
    for place, record in enumerate(records):
        if len(chosen) < count and not seen.issuperset(record.labels.tolist()):
            chosen.append(place)
            seen.update(record.labels.tolist())
    others = [place for place in range(len(records)) if place not in set(chosen)]
    wanted = min(count, len(records)) - len(chosen)
    if wanted > 0:
        spread = np.linspace(0, len(others) - 1, wanted).round().astype(int)
        chosen += [others[place] for place in spread]
    return [records[place] for place in sorted(chosen)]
