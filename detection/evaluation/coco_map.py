"""AP at overlap 0.5 from pycocotools, an independent check of the VOC metric.

The two numbers are not the same, but this one is near ``ap_area``. COCO reads precision at 101
recalls, and matches a detection to its second-best object if the best one is already claimed.

Difficult objects are ignored. The obvious way, ``iscrowd=1``, would be wrong: a crowd's overlap is
intersection over the *detection's* area, so a small box inside a large difficult object would be
ignored. COCOeval also ignores objects whose ``area`` is outside the measured range, and computes
their overlap as usual. So difficult objects get an area of -1, which is used for nothing else. One
difference remains: the devkit ignores every detection on a difficult object, COCOeval only the
first.
"""

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detection.data.records import ImageRecord
from detection.evaluation.voc_ap import MIN_OVERLAP, ClassDetections, check_objects

_MEASURED, _IGNORED = 1.0, -1.0


def coco_ap50(
    detections: Mapping[str, ClassDetections],
    records: Sequence[ImageRecord],
    classes: Sequence[str],
) -> float:
    """Mean over the classes with objects of COCO's 101-point AP at overlap >= 0.5, 0..1.

    The number of detections per image is not limited. The mean leaves out classes without an
    object that counts, like VOC's mean.

    Args:
        detections: of each class, by its name; see ``evaluate_voc``.
        records: every image of the split.
        classes: names that the records' labels index.

    Raises:
        ValueError: no class has an object that counts.
    """
    check_objects(records, classes)
    number = {record.image_id: place for place, record in enumerate(records, start=1)}
    # COCOeval writes the id of a match into an array of zeros, so ids begin at 1.
    ids = count(1)
    objects = [
        _annotation(next(ids), number[record.image_id], label, box, difficult=difficult)
        for record in records
        for box, label, difficult in zip(record.boxes, record.labels, record.difficult, strict=True)
    ]
    found = [
        _annotation(next(ids), number[image_id], label, box, score=float(score))
        for label, name in enumerate(classes)
        for image_id, score, box in zip(
            detections[name].image_ids, detections[name].scores, detections[name].boxes, strict=True
        )
    ]
    with redirect_stdout(io.StringIO()):
        evaluation = COCOeval(
            _coco(objects, len(number), classes), _coco(found, len(number), classes), "bbox"
        )
        evaluation.params.iouThrs = np.array([MIN_OVERLAP])
        evaluation.params.maxDets = [max(1, len(found))]
        evaluation.params.areaRng = [[0.0, 2 * _MEASURED]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][0, :, :, 0, 0]
    # A class without objects has -1 at every recall.
    return float(precision[:, precision[0] >= 0].mean(axis=0).mean())


def _annotation(
    number: int,
    image: int,
    label: int,
    box: NDArray,
    *,
    difficult: bool = False,
    score: float = 0.0,
) -> dict[str, Any]:
    x1, y1, x2, y2 = map(float, box)
    return {
        "id": number,
        "image_id": image,
        "category_id": int(label),
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": _IGNORED if difficult else _MEASURED,
        "iscrowd": 0,
        "score": score,
    }


def _coco(annotations: list[dict[str, Any]], images: int, classes: Sequence[str]) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image} for image in range(1, images + 1)],
        "categories": [{"id": label, "name": name} for label, name in enumerate(classes)],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco
