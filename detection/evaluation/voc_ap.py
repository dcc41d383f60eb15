"""True and false positives by the rule of the VOC 2007 development kit (``VOCevaldet.m``).

The rule for one class: Detections of all images are sorted by decreasing score; ties keep the given
order. Each detection is compared with the object of its image and class that it overlaps most (on
ties, the first; difficult and already claimed objects are included). If the overlap is at least
0.5, the detection is ignored if that object is difficult, a true positive if it is the first to
claim it, and a false positive otherwise; there is no second-best match. Below 0.5 it is a false
positive. Recall counts the objects that are not difficult; ``average_precision.py`` computes the
averages.

Nothing is rounded and everything is float64.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.boxes import iou
from detection.data.records import ImageRecord
from detection.evaluation.average_precision import (
    ClassResult,
    VOCResult,
    area_ap,
    eleven_point_ap,
    recall_precision,
)

MIN_OVERLAP = 0.5

Truth = dict[str, tuple[NDArray[np.float64], NDArray[np.bool_]]]
NOTHING = (np.zeros((0, 4)), np.zeros(0, dtype=bool))


@dataclass(frozen=True)
class ClassDetections:
    """Detections of one class in all images of a split, in the order that breaks ties of score.

    Attributes:
        image_ids: the image of each detection, ``n`` names.
        scores: ``(n,)`` float64; higher is more confident.
        boxes: ``(n, 4)`` float64, half-open pixels of the original image.

    Raises:
        ValueError: an array has another shape or dtype.
    """

    image_ids: Sequence[str]
    scores: NDArray[np.float64]
    boxes: NDArray[np.float64]

    def __post_init__(self) -> None:
        count = len(self.image_ids)
        for name, shape in (("scores", (count,)), ("boxes", (count, 4))):
            array = getattr(self, name)
            if array.shape != shape or array.dtype != np.float64:
                raise ValueError(
                    f"ClassDetections.{name} must be float64 of shape {shape}, "
                    f"got {array.dtype} of shape {array.shape}"
                )

    def __len__(self) -> int:
        return len(self.scores)


def evaluate_voc(
    detections: Mapping[str, ClassDetections],
    records: Sequence[ImageRecord],
    classes: Sequence[str],
) -> VOCResult:
    """Evaluate detections against ground truth by the devkit's rule.

    Args:
        detections: of each class, by its name; a class without detections has an empty entry.
        records: every image of the split, including images without objects or detections.
        classes: names that the records' labels index.

    Raises:
        ValueError: the classes of ``detections`` are not ``classes``, no class has an object that
            counts, two records have the same id, or a detection names an image that is not among
            the records.
    """
    check_objects(records, classes)
    if set(detections) != set(classes):
        raise ValueError(
            f"expected detections of exactly the classes {sorted(classes)}, "
            f"got those of {sorted(detections)}"
        )
    known = {record.image_id for record in records}
    if len(known) != len(records):
        raise ValueError(f"expected each of {len(records)} records to have its own image id")
    for name in classes:
        check_images(detections[name], known, name)
    truth: list[Truth] = [{} for _ in classes]
    for record in records:
        for label in np.unique(record.labels):
            of_class = record.labels == label
            boxes = record.boxes[of_class].astype(np.float64)
            truth[label][record.image_id] = (boxes, record.difficult[of_class])
    return VOCResult(
        {
            name: evaluate_class(detections[name], of_name)
            for name, of_name in zip(classes, truth, strict=True)
        }
    )


def check_objects(records: Sequence[ImageRecord], classes: Sequence[str]) -> None:
    """Check, before a long test, that the images have objects to evaluate on.

    Raises:
        ValueError: no record has an object that is not difficult.
    """
    if all(record.difficult.all() for record in records):
        raise ValueError(
            f"none of the {len(records)} images has an object that counts, of the classes "
            f"{', '.join(classes) or '(none)'}, so there is no mAP; expected annotated "
            "objects that are not marked difficult"
        )


def check_images(detections: ClassDetections, known: Set[str], name: str) -> None:
    """Check that the detections of class ``name`` are in ``known`` images.

    Raises:
        ValueError: a detection is in an unknown image.
    """
    for image_id in detections.image_ids:
        if image_id not in known:
            raise ValueError(
                f"a detection of class {name} names image {image_id!r}, which is not among "
                f"the {len(known)} images of the split"
            )


def evaluate_class(
    detections: ClassDetections,
    truth: Truth,
) -> ClassResult:
    """Evaluate one class.

    Args:
        detections: of this class.
        truth: for each image with objects of the class, their boxes ``(N, 4)`` in the annotation's
            order, and a mask ``(N,)`` of the difficult ones.
    """
    order = np.argsort(-detections.scores, kind="stable")
    boxes = detections.boxes[order]
    ranks_of = defaultdict(list)
    for rank, row in enumerate(order):
        ranks_of[detections.image_ids[row]].append(rank)
    is_tp = np.zeros(len(order), dtype=bool)
    is_fp = np.zeros(len(order), dtype=bool)
    for image_id, ranks in ranks_of.items():
        is_tp[ranks], is_fp[ranks] = match_image(boxes[ranks], *truth.get(image_id, NOTHING))
    npos = sum(int((~difficult).sum()) for _, difficult in truth.values())
    tp, fp = is_tp.cumsum(), is_fp.cumsum()
    recall, precision = recall_precision(tp, fp, npos)
    return ClassResult(
        npos=npos,
        scores=detections.scores[order],
        tp=tp,
        fp=fp,
        ap=eleven_point_ap(recall, precision) if npos else None,
        ap_area=area_ap(recall, precision) if npos else None,
    )


def match_image(
    boxes: NDArray[np.float64], objects: NDArray[np.float64], difficult: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which detections of one image and class are true positives, and which are false positives.

    A detection is compared only with the object that it overlaps most, so all detections are
    matched at once; the first detection on an object claims it.

    Args:
        boxes: ``(n, 4)`` detections by decreasing score.
        objects: ``(N, 4)`` ground truth.
        difficult: ``(N,)`` which objects are difficult.

    Returns:
        Two masks ``(n,)``; a detection in neither is ignored.
    """
    is_tp = np.zeros(len(boxes), dtype=bool)
    if not len(objects) or not len(boxes):
        return is_tp, ~is_tp
    overlap = iou(boxes, objects)
    best = overlap.argmax(axis=1)
    found = overlap[np.arange(len(boxes)), best] >= MIN_OVERLAP
    ignored = found & difficult[best]
    claims = np.flatnonzero(found & ~ignored)
    _, first = np.unique(best[claims], return_index=True)
    is_tp[claims[first]] = True
    return is_tp, ~(is_tp | ignored)
