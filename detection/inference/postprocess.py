"""From scored windows to detections (released spp_test and its evaluation; paper 4.1).

For each class: take windows that score above -1.5; suppress windows at IoU 0.3; keep the best 100;
regress their boxes and clip them to the image; suppress these boxes at 0.3 again, as the released
evaluation does; drop boxes without area.

Difference from the released code: only the best 300 windows of a class enter the first suppression,
so that an image's candidates can be stored and post-processed again without the network.

With box voting (Gidaris and Komodakis 2015, section 5), all candidates' boxes are suppressed once.
Each box that is kept becomes the mean, weighted by score, of the boxes that overlap it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detection.boxes import clip_boxes, iou, to_tensor
from detection.detections import Detections
from detection.networks.torchvision_ops import nms
from files.artefacts import read_artefact, write_artefact

ARRAYS = ("windows", "boxes", "scores", "labels")


@dataclass(frozen=True)
class Suppression:
    """Limits from scored windows to detections; the defaults are the released code's.

    Attributes:
        score_threshold: strict.
        nms_iou: a window or box is suppressed if its IoU with a better one is above this (strict).
        top_k: windows of a class kept after the first suppression, and boxes after the second.
        vote_iou: boxes of at least this IoU with a kept one vote on it; None for no vote.
    """

    score_threshold: float = -1.5
    nms_iou: float = 0.3
    top_k: int = 100
    vote_iou: float | None = None


RELEASED = Suppression()


@dataclass(frozen=True)
class Candidates:
    """The best windows of each class in one image, before suppression.

    Sorted by label, then score from high to low, then window.

    Attributes:
        windows: ``(n, 4)`` float32.
        boxes: ``(n, 4)`` float32, regressed by the label's class, not clipped.
        scores: ``(n,)`` float32.
        labels: ``(n,)`` int64.
        num_classes: K; labels are below it.
    """

    windows: NDArray[np.float32]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    num_classes: int

    def __post_init__(self) -> None:
        count = len(self.scores)
        for name, dtype, shape in (
            ("windows", np.float32, (count, 4)),
            ("boxes", np.float32, (count, 4)),
            ("scores", np.float32, (count,)),
            ("labels", np.int64, (count,)),
        ):
            array = getattr(self, name)
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(
                    f"Candidates.{name} must be {np.dtype(dtype)} of shape {shape}, "
                    f"got {array.dtype} of shape {array.shape}"
                )

    def __len__(self) -> int:
        return len(self.scores)

    def save(self, path: str | Path, key: str) -> None:
        """Write an artefact in one step; equal candidates give equal bytes.

        Args:
            path: the file.
            key: key of everything that determines them; ``load`` needs it.
        """
        arrays = {name: getattr(self, name) for name in ARRAYS}
        write_artefact(path, key, arrays, {"num_classes": self.num_classes})

    @classmethod
    def load(cls, path: str | Path, key: str) -> "Candidates":
        """Read what ``save`` wrote under this key.

        Raises:
            FileNotFoundError: no such file.
            DamagedArtefact: the file is not whole, was changed, or is of another key.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"no candidates at {path}; python tools/test_det.py makes them")
        found = read_artefact(path, key)
        return cls(**found.arrays, num_classes=found.facts["num_classes"])


def select_candidates(
    windows: NDArray[np.float32],
    scores: NDArray[np.float32],
    boxes: NDArray[np.float32],
    *,
    per_class: int = 300,
    score_threshold: float = -1.5,
) -> Candidates:
    """The best ``per_class`` windows of each class that score above the threshold.

    Args:
        windows: ``(P, 4)``.
        scores: ``(P, K)``; of equal scores the earlier window comes first.
        boxes: ``(P, K, 4)`` regressed boxes.
        per_class: windows of a class kept at most.
        score_threshold: strict.

    Raises:
        ValueError: a score or box is not finite.
    """
    if not (np.isfinite(scores).all() and np.isfinite(boxes).all()):
        raise ValueError("scores and regressed boxes of windows must be finite")
    num_classes = scores.shape[1]
    picked, labels = [], []
    for label in range(num_classes):
        order = np.argsort(-scores[:, label], kind="stable")[:per_class]
        picked.append(order[scores[order, label] > score_threshold])
        labels.append(np.full(len(picked[-1]), label, np.int64))
    rows = np.concatenate(picked, dtype=np.int64) if picked else np.zeros(0, np.int64)
    columns = np.concatenate(labels) if labels else np.zeros(0, np.int64)
    return Candidates(
        windows[rows].astype(np.float32, copy=False),
        boxes[rows, columns].astype(np.float32, copy=False),
        scores[rows, columns].astype(np.float32, copy=False),
        columns,
        num_classes,
    )


def suppress(boxes: NDArray, scores: NDArray, nms_iou: float) -> NDArray[np.int64]:
    """Rows that greedy non-maximum suppression keeps, from high score to low.

    A box is suppressed if its IoU with a better kept one is above ``nms_iou`` (strict); of equal
    scores the earlier row is the better.

    Args:
        boxes: ``(n, 4)``.
        scores: ``(n,)``.
        nms_iou: 0 to 1.
    """
    # In float64, so that an IoU of exactly 3/10 is not above 0.3, as it is once rounded to float32.
    kept = nms(to_tensor(boxes.astype(np.float64)), to_tensor(scores.astype(np.float64)), nms_iou)
    return np.asarray(kept.numpy())


def vote(boxes: NDArray, scores: NDArray, kept: NDArray, vote_iou: float) -> NDArray[np.float32]:
    """Box voting: each kept box becomes a mean of the boxes that overlap it.

    Args:
        boxes: ``(n, 4)`` of one class.
        scores: ``(n,)``; the weight of a box is its score minus the lowest score.
        kept: ``(m,)`` rows that suppression kept. A box that no other votes for stays.
        vote_iou: boxes of at least this IoU vote.

    Returns:
        ``(m, 4)``.
    """
    weights = (scores - scores.min(initial=np.inf)).astype(np.float64)
    votes = np.where(iou(boxes[kept], boxes) >= vote_iou, weights, 0.0)
    sums = votes.sum(axis=1, keepdims=True)
    voted = votes @ boxes / np.where(sums > 0, sums, 1.0)
    return np.where(sums > 0, voted, boxes[kept]).astype(np.float32)


def by_score(detections: Detections) -> Detections:
    """The same detections from high score to low; equal scores stay in order."""
    return detections[np.argsort(-detections.scores, kind="stable")]


def postprocess(
    candidates: Candidates,
    image_size: tuple[int, int],
    classes: tuple[str, ...],
    limits: Suppression = RELEASED,
) -> Detections:
    """Detections of one image, in the released order of steps (module's head).

    Args:
        candidates: of the image.
        image_size: (height, width).
        classes: names of the K classes.
        limits: of suppression.

    Returns:
        Detections inside the image, area above 0, from high score to low; among equal scores the
        lower label, then the earlier window, comes first.

    Raises:
        ValueError: the candidates have another number of classes.
    """
    if candidates.num_classes != len(classes):
        raise ValueError(
            f"candidates have {candidates.num_classes} classes, but there are {len(classes)} class "
            "names"
        )
    kept, of_kept = [np.zeros(0, np.int64)], [np.zeros((0, 4), np.float32)]
    for label in range(len(classes)):
        rows = np.flatnonzero(
            (candidates.labels == label) & (candidates.scores > limits.score_threshold)
        )
        if limits.vote_iou is None:
            windows, scores = candidates.windows[rows], candidates.scores[rows]
            rows = rows[suppress(windows, scores, limits.nms_iou)[: limits.top_k]]
        boxes, scores = clip_boxes(candidates.boxes[rows], image_size), candidates.scores[rows]
        best = suppress(boxes, scores, limits.nms_iou)[: limits.top_k]
        kept.append(rows[best])
        of_kept.append(
            boxes[best] if limits.vote_iou is None else vote(boxes, scores, best, limits.vote_iou)
        )
    rows, boxes = np.concatenate(kept), np.concatenate(of_kept)
    detections = Detections(boxes, candidates.scores[rows], candidates.labels[rows], classes)
    return by_score(detections[((boxes[:, 2:] - boxes[:, :2]) > 0).all(axis=1)])
