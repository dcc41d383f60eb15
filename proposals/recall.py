"""How well windows cover objects: recall, ABO and MABO (Uijlings et al., IJCV 2013, section 5)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask

THRESHOLDS = (0.5, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class ProposalRecall:
    """Quality of the windows of a set of images.

    Attributes:
        recall: for each threshold t, the share of objects whose best window has IoU >= t.
        abo: average best overlap of each class, ``(K,)`` float64; NaN for a class without objects.
        mabo: mean of ``abo`` over the classes that have objects.
        abo_all: average best overlap of the objects of all classes.
        windows: number of windows of each image, ``(I,)`` int64.
        count: number of objects.
    """

    recall: dict[float, float]
    abo: NDArray[np.float64]
    mabo: float
    abo_all: float
    windows: NDArray[np.int64]
    count: int


def best_overlaps(windows: NDArray, boxes: NDArray) -> NDArray[np.float64]:
    """The highest IoU of each box ``(N, 4)`` with any window ``(P, 4)``, as ``(N,)``.

    0 if there are no windows. Both are in half-open pixels; IoU is computed in float64.
    """
    if not len(windows) or not len(boxes):
        return np.zeros(len(boxes))
    overlaps = mask.iou(_sizes(windows), _sizes(boxes), np.zeros(len(boxes), np.uint8))  # (P, N)
    return np.asarray(overlaps).max(axis=0)


def proposal_recall(
    windows: Sequence[NDArray],
    boxes: Sequence[NDArray],
    labels: Sequence[NDArray],
    num_classes: int,
) -> ProposalRecall:
    """Recall, ABO and MABO of windows against ground truth.

    Every box counts; the caller leaves out difficult objects.

    Args:
        windows: of each image, ``(P_i, 4)``; without windows, an image's objects have overlap 0.
        boxes: ground truth of each image, ``(N_i, 4)``.
        labels: of each image, ``(N_i,)`` integers 0..num_classes-1.
        num_classes: K.

    Raises:
        ValueError: the three sequences differ in length, labels do not match their boxes or K, or
            no image has an object.
    """
    _check(windows, boxes, labels, num_classes)
    best = np.concatenate([best_overlaps(w, b) for w, b in zip(windows, boxes, strict=True)])
    label = np.concatenate([np.asarray(each, np.int64).ravel() for each in labels])
    abo = np.array(
        [best[label == k].mean() if (label == k).any() else np.nan for k in range(num_classes)]
    )
    return ProposalRecall(
        recall={threshold: float((best >= threshold).mean()) for threshold in THRESHOLDS},
        abo=abo,
        mabo=float(np.nanmean(abo)),
        abo_all=float(best.mean()),
        windows=np.array([len(each) for each in windows], np.int64),
        count=len(best),
    )


def _sizes(boxes: NDArray) -> NDArray[np.float64]:
    """Boxes as x, y, width, height, the form of pycocotools."""
    # pycocotools assumes C order and ignores an array's strides.
    sizes = np.array(boxes, dtype=np.float64, order="C").reshape(-1, 4)
    sizes[:, 2:] -= sizes[:, :2]
    return sizes


def _check(
    windows: Sequence[NDArray],
    boxes: Sequence[NDArray],
    labels: Sequence[NDArray],
    num_classes: int,
) -> None:
    if not len(windows) == len(boxes) == len(labels):
        raise ValueError(
            f"windows, boxes and labels must be of the same number of images, got {len(windows)}, "
            f"{len(boxes)} and {len(labels)}"
        )
    for index, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        if len(box) != len(label):
            raise ValueError(f"image {index} has {len(box)} boxes and {len(label)} labels")
        if len(label) and not 0 <= np.min(label) <= np.max(label) < num_classes:
            raise ValueError(
                f"image {index} has labels from {np.min(label)} to {np.max(label)}; "
                f"expected 0 to {num_classes - 1}"
            )
    if not any(len(box) for box in boxes):
        raise ValueError(f"none of the {len(boxes)} images has an object to measure recall on")
