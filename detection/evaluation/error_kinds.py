"""The kinds of error of detections, missed objects, and the gain from correcting each kind.

The kinds are TIDE's (Bolya et al. 2020), which follows Hoiem et al. 2012, with VOC's matching rule.
A false positive has the first kind that applies; overlaps are with the object it overlaps most:

- duplicate: at least 0.5 with an object of its class, which a detection with a higher score claims;
- place: 0.1 to 0.5 with an object of its class;
- class: at least 0.5 with an object of another class;
- both: 0.1 to 0.5 with an object of another class;
- background: less with every object.

An object is missed if no detection claims it and no error of place or class is on it. Detections of
all scores count; those below a threshold do not change the kinds of those above it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from detection.boxes import iou
from detection.data.records import ImageRecord
from detection.evaluation.average_precision import eleven_point_ap, recall_precision
from detection.evaluation.voc_ap import MIN_OVERLAP, ClassDetections, check_images

# Below this overlap, a detection is not related to an object (as in TIDE and Hoiem et al.).
NO_OVERLAP = 0.1


class Kind(IntEnum):
    """The kind of a detection; those on difficult objects are ignored."""

    FOUND = 0
    IGNORED = 1
    PLACE = 2
    CLASS = 3
    BOTH = 4
    DUPLICATE = 5
    BACKGROUND = 6


ERRORS = (Kind.PLACE, Kind.CLASS, Kind.BOTH, Kind.DUPLICATE, Kind.BACKGROUND)
# Errors that are corrected by moving the detection to its object; detections of other kinds are
# dropped.
MOVED = (Kind.PLACE, Kind.CLASS)


@dataclass(frozen=True)
class Objects:
    """The objects of a split, image by image.

    Attributes:
        image: ``(m,)`` int64, index of the image among the records.
        labels: ``(m,)`` int64.
        boxes: ``(m, 4)`` float64.
        difficult: ``(m,)`` bool; a difficult object does not count.
    """

    image: NDArray[np.int64]
    labels: NDArray[np.int64]
    boxes: NDArray[np.float64]
    difficult: NDArray[np.bool_]


@dataclass(frozen=True)
class Explained:
    """Every detection of a split with its kind, sorted by class, then by decreasing score.

    Attributes:
        classes: names of the K classes.
        image: ``(n,)`` int64, index of the image among the records.
        labels: ``(n,)`` int64.
        scores: ``(n,)`` float64.
        boxes: ``(n, 4)`` float64.
        kind: ``(n,)`` uint8, a ``Kind``.
        on: ``(n,)`` int64, index of the object to which the kind refers; -1 for background.
        objects: of the split.
    """

    classes: tuple[str, ...]
    image: NDArray[np.int64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    boxes: NDArray[np.float64]
    kind: NDArray[np.uint8]
    on: NDArray[np.int64]
    objects: Objects

    def best_on(self, kind: Kind, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(m,)`` the highest of ``values`` ``(n,)`` among each object's detections of a kind.

        It is -inf for an object without such detections.
        """
        best = np.full(len(self.objects.labels), -np.inf, np.float32)
        rows = self.kind == kind
        np.maximum.at(best, self.on[rows], values[rows])
        return best

    @property
    def missed(self) -> NDArray[np.bool_]:
        """``(m,)`` objects that count, that no detection claims and no error of MOVED is on."""
        near = np.isin(self.kind, (Kind.FOUND, *MOVED))
        missed = ~self.objects.difficult
        missed[self.on[near]] = False
        return missed


def explain(
    detections: Mapping[str, ClassDetections],
    records: Sequence[ImageRecord],
    classes: Sequence[str],
) -> Explained:
    """The kind of every detection; ``FOUND`` are the true positives of ``evaluate_voc``.

    Args:
        detections: of each class, by its name.
        records: every image of the split.
        classes: names that the records' labels index.

    Raises:
        ValueError: a detection names an image that is not among the records.
    """
    place = {record.image_id: row for row, record in enumerate(records)}
    for name in classes:
        check_images(detections[name], place.keys(), name)
    parts = [detections[name] for name in classes]
    image = np.array([place[each] for part in parts for each in part.image_ids], np.int64)
    labels = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    scores = np.concatenate([np.zeros(0), *(part.scores for part in parts)])
    boxes = np.concatenate([np.zeros((0, 4)), *(part.boxes for part in parts)])
    order = np.lexsort((-scores, labels))
    image, labels, scores, boxes = image[order], labels[order], scores[order], boxes[order]

    objects = objects_of(records)
    kind = np.full(len(order), Kind.BACKGROUND, np.uint8)
    on = np.full(len(order), -1, np.int64)
    by_image = np.argsort(image, kind="stable")
    starts = np.searchsorted(image[by_image], np.arange(len(records) + 1))
    first = 0
    for number, record in enumerate(records):
        rows = by_image[starts[number] : starts[number + 1]]
        mine = slice(first, first + len(record.labels))
        if len(rows) and len(record.labels):
            kind[rows], nearest = _explain_image(
                boxes[rows], labels[rows], objects.boxes[mine], record.labels, record.difficult
            )
            on[rows] = np.where(nearest < 0, -1, first + nearest)
        first = mine.stop
    return Explained(tuple(classes), image, labels, scores, boxes, kind, on, objects)


def objects_of(records: Sequence[ImageRecord]) -> Objects:
    """The objects of all records, in their order."""
    counts = [len(record.labels) for record in records]
    return Objects(
        np.repeat(np.arange(len(records)), counts),
        np.concatenate([np.zeros(0, np.int64), *(record.labels for record in records)]),
        np.concatenate([np.zeros((0, 4)), *(record.boxes for record in records)]),
        np.concatenate([np.zeros(0, bool), *(record.difficult for record in records)]),
    )


def _explain_image(
    boxes: NDArray, labels: NDArray, objects: NDArray, owners: NDArray, difficult: NDArray
) -> tuple[NDArray, NDArray]:
    """Kinds and objects (or -1), ``(n,)`` each, of one image's detections.

    The detections must be sorted by class and decreasing score.
    """
    overlap, same = iou(boxes, objects), labels[:, None] == owners
    own, other = np.where(same, overlap, -1.0), np.where(same, -1.0, overlap)
    nearest, stranger = own.argmax(axis=1), other.argmax(axis=1)
    own_overlap, other_overlap = own.max(axis=1), other.max(axis=1)
    well = own_overlap >= MIN_OVERLAP
    ignored = well & difficult[nearest]
    claims = np.flatnonzero(well & ~ignored)
    _, first = np.unique(nearest[claims], return_index=True)
    found = np.zeros(len(boxes), bool)
    found[claims[first]] = True
    of_own = [
        (found, Kind.FOUND),
        (ignored, Kind.IGNORED),
        (well, Kind.DUPLICATE),
        (own_overlap >= NO_OVERLAP, Kind.PLACE),
    ]
    of_other = [
        (other_overlap >= MIN_OVERLAP, Kind.CLASS),
        (other_overlap >= NO_OVERLAP, Kind.BOTH),
    ]
    conditions, kinds = zip(*of_own, *of_other, strict=True)
    kind = np.select(conditions, [int(each) for each in kinds], int(Kind.BACKGROUND))
    on = np.select(
        [own_overlap >= NO_OVERLAP, other_overlap >= NO_OVERLAP], [nearest, stranger], -1
    )
    return kind, on


def average_precisions(
    explained: Explained, mended: Sequence[Kind] = (), *, without_missed: bool = False
) -> NDArray[np.float64]:
    """11-point AP ``(K,)`` of each class after errors are corrected; NaN without objects.

    A detection with an error of place or class is moved to its object; of all detections there,
    only the one with the highest score is kept (TIDE's oracle). Detections with other errors are
    dropped.

    Args:
        explained: the detections.
        mended: the kinds of errors to correct.
        without_missed: leaves out the missed objects too. A class without other objects keeps its
            AP.
    """
    objects, labels = explained.objects, explained.labels.copy()
    true = explained.kind == Kind.FOUND
    wrong = np.isin(explained.kind, [each for each in ERRORS if each not in mended])
    moved = np.isin(explained.kind, [each for each in MOVED if each in mended])
    labels[moved] = objects.labels[explained.on[moved]]
    claims = np.flatnonzero((moved | true) & ~objects.difficult[explained.on])
    claims = claims[np.argsort(-explained.scores[claims], kind="stable")]
    _, surest = np.unique(explained.on[claims], return_index=True)
    true[:] = False
    true[claims[surest]] = True
    count = len(explained.classes)
    npos = np.bincount(objects.labels[~objects.difficult], minlength=count)
    left = npos - np.bincount(objects.labels[explained.missed], minlength=count)
    npos = np.where(left > 0, left, npos) if without_missed else npos
    return np.array(
        [
            _average_precision(explained.scores[rows], true[rows], wrong[rows], npos[label])
            for label in range(count)
            for rows in [labels == label]
        ]
    )


def _average_precision(scores: NDArray, true: NDArray, wrong: NDArray, npos: int) -> float:
    if not npos:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    counts = true[order].cumsum(), wrong[order].cumsum()
    return eleven_point_ap(*recall_precision(*counts, npos))


def gains(explained: Explained) -> dict[str, NDArray[np.float64]]:
    """The gain of each class's AP if all errors of a kind were corrected, by the kind's name.

    ``missed`` is the gain from leaving out the missed objects. The gains do not add up, because one
    error may hide another.

    Returns:
        ``(K,)`` for each kind; NaN for a class without objects. The mean is the gain in mAP.
    """
    before = average_precisions(explained)
    after = {kind.name.lower(): average_precisions(explained, [kind]) for kind in ERRORS}
    after["missed"] = average_precisions(explained, without_missed=True)
    return {name: each - before for name, each in after.items()}
