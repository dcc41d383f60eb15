"""Which windows are positives, background and negatives of a class (paper 4.1)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.boxes import iou
from detection.data.records import Dataset, ImageRecord

POSITIVE_IOU = 0.5
BACKGROUND_IOU = 0.1
# A class with fewer objects can be trained, but its accuracy is a matter of luck.
FEW = 20


@dataclass(frozen=True)
class WindowLabels:
    """How the windows of an image relate to its objects.

    Attributes:
        windows: ``(P, 4)`` ground-truth boxes of trainable objects first, then the proposals.
        overlap: ``(P,)`` largest IoU with a trainable object; 0 if there is none.
        nearest: ``(P,)`` int64 index of that object among the trainable ones; on ties the first,
            but a ground-truth box always belongs to its own object.
        class_overlap: ``(P, K)`` largest IoU with any object of the class, difficult included.
        boxes: ``(N, 4)`` the trainable objects.
        labels: ``(N,)`` their classes.
    """

    windows: NDArray[np.float32]
    overlap: NDArray[np.float32]
    nearest: NDArray[np.int64]
    class_overlap: NDArray[np.float32]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]

    @property
    def positive(self) -> NDArray[np.bool_]:
        """Windows that fine-tuning uses as objects: IoU in [0.5, 1]."""
        return self.overlap >= POSITIVE_IOU

    @property
    def background(self) -> NDArray[np.bool_]:
        """Windows that fine-tuning uses as background: IoU in [0.1, 0.5) with a trainable object.

        Windows that overlap a difficult object by 0.5 or more are excluded.
        """
        near = (self.overlap >= BACKGROUND_IOU) & (self.overlap < POSITIVE_IOU)
        return near & (self.class_overlap.max(axis=1, initial=0) < POSITIVE_IOU)


def label_windows(
    record: ImageRecord,
    proposals: NDArray[np.float32],
    num_classes: int,
    *,
    difficult: bool = False,
) -> WindowLabels:
    """Overlaps of ground-truth boxes and proposals with the objects of an image.

    Args:
        record: the annotated image.
        proposals: ``(P', 4)`` its windows.
        num_classes: K.
        difficult: objects marked difficult are trainable too.
    """
    trainable = np.ones(len(record.labels), bool) if difficult else ~record.difficult
    boxes, labels = record.boxes[trainable], record.labels[trainable]
    windows = np.concatenate([boxes, proposals]).astype(np.float32)
    overlaps = iou(windows, record.boxes)
    class_overlap = np.zeros((len(windows), num_classes), np.float32)
    for column, label in enumerate(record.labels):
        np.maximum(class_overlap[:, label], overlaps[:, column], out=class_overlap[:, label])
    if len(boxes):
        nearest = overlaps[:, trainable].argmax(axis=1)
        overlap = overlaps[:, trainable].max(axis=1)
    else:
        nearest = np.zeros(len(windows), np.int64)
        overlap = np.zeros(len(windows), np.float32)
    # A ground-truth box belongs to its own object, even if another has the same box.
    nearest[: len(boxes)] = np.arange(len(boxes))
    return WindowLabels(windows, overlap, nearest, class_overlap, boxes, labels)


def check_classes(data: Dataset, split: str, *, difficult: bool = False) -> None:
    """Check, before hours of training, that every class has an object to learn from.

    Args:
        data: the training images.
        split: name of their split, for the message.
        difficult: objects marked difficult are trainable too.

    Raises:
        ValueError: a class has none.
    """
    shown: set[int] = set()
    hard: set[int] = set()
    for record in data.records:
        shown.update(record.labels[~record.difficult].tolist())
        hard.update(record.labels[record.difficult].tolist())
    without = {*range(len(data.classes))} - shown - (hard if difficult else set())
    absent = without - hard
    named = ", ".join(repr(data.classes[label]) for label in sorted(absent or without))
    where = f"in the {len(data.records)} images of '{split}'"
    if absent:
        lost = [f"{kind}: {count}" for kind, count in data.repairs.items() if "dropped" in kind]
        lost += [f"images that cannot be read: {len(data.unreadable)}"] if data.unreadable else []
        lost_here = f" ({'; '.join(lost)})" if lost else ""
        raise ValueError(
            f"no object of class {named} is {where}{lost_here}, so it cannot be learned; add "
            "images that show it"
        )
    if without:
        raise ValueError(
            f"every object of class {named} {where} is marked difficult, so it cannot be learned; "
            "add images, or set --data.difficult true"
        )


def few_objects(data: Dataset, *, difficult: bool = False) -> dict[str, int]:
    """Classes with fewer than FEW objects to learn from, and their numbers of objects."""
    count = np.zeros(len(data.classes), np.int64)
    for record in data.records:
        np.add.at(count, record.labels[difficult | ~record.difficult], 1)
    named = zip(data.classes, count.tolist(), strict=True)
    return {name: number for name, number in named if number < FEW}
