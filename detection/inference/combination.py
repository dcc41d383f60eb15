"""Model combination (paper 4.4): several detectors vote on one image.

In the paper, each model scores all windows and regresses them with its own box regression, and the
union of the scored windows is suppressed at IoU 0.3, class by class. Here each model is first
post-processed alone, then the union of all boxes is suppressed again. So windows that two models
move to the same place compete there, and a model alone, or combined with itself, gives exactly its
own detections. The same holds for box voting, where the candidates of all models form one list and
vote together.

In the union, the higher score of a window counts, even if it comes from a weak model. With weights,
the models' scores of the same window are averaged instead, which the paper does not do. Then a
window with good scores from all models comes before one with a high score from a single model
(docs/decisions.md).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from detection.detections import Detections
from detection.inference.postprocess import (
    RELEASED,
    Candidates,
    Suppression,
    by_score,
    postprocess,
    suppress,
)


def same_classes(classes: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The class names that all runs share, in their order.

    Args:
        classes: each run's class names, by the run's name.

    Raises:
        ValueError: no run, or one whose names or order differ from the first's.
    """
    if not classes:
        raise ValueError("combination needs at least one run, got none")
    (first, names), *others = classes.items()
    for run, found in others:
        if tuple(found) != tuple(names):
            raise ValueError(
                f"runs of different classes cannot be combined: {first} has {', '.join(names)}; "
                f"{run} has {', '.join(found)}"
            )
    return tuple(names)


def combine(
    candidates: Sequence[Candidates],
    image_size: tuple[int, int],
    classes: tuple[str, ...],
    limits: Suppression = RELEASED,
    *,
    weights: Sequence[float] | None = None,
) -> Detections:
    """Detections of several models together in one image.

    Args:
        candidates: of each model on the image; the models' scores must be comparable, as those of
            SVMs trained alike are. The order of models matters only between equal scores.
        image_size: (height, width).
        classes: names of the K classes, the same for all models (``same_classes``).
        limits: of suppression, for each model and again for all together.
        weights: of each model in the mean of scores and boxes (``averaged``); None for the union.

    Returns:
        Detections from high score to low; among equal scores the lower label, then the earlier
        model, comes first.

    Raises:
        ValueError: no model, a model of another number of classes, or weights that are not one
            above 0 for each model.
    """
    if not candidates:
        raise ValueError("combination needs the candidates of at least one model, got none")
    if weights is not None:
        mean = averaged(candidates, weights, limits.score_threshold)
        return postprocess(mean, image_size, classes, limits)
    if limits.vote_iou is not None:
        return postprocess(concatenated(candidates), image_size, classes, limits)
    single = [postprocess(model, image_size, classes, limits) for model in candidates]
    union = Detections(
        np.concatenate([found.boxes for found in single]),
        np.concatenate([found.scores for found in single]),
        np.concatenate([found.labels for found in single]),
        classes,
    )
    kept = [np.zeros(0, np.int64)]
    for label in range(len(classes)):
        rows = np.flatnonzero(union.labels == label)
        best = suppress(union.boxes[rows], union.scores[rows], limits.nms_iou)
        kept.append(rows[best[: limits.top_k]])
    return by_score(union[np.concatenate(kept)])


def concatenated(candidates: Sequence[Candidates]) -> Candidates:
    """All models' candidates as one list, in its order; equal ones by the order of models.

    Raises:
        ValueError: models of different numbers of classes.
    """
    num_classes = _classes_of_all(candidates)
    labels = np.concatenate([model.labels for model in candidates])
    scores = np.concatenate([model.scores for model in candidates])
    order = np.lexsort((-scores, labels))
    return Candidates(
        np.concatenate([model.windows for model in candidates])[order],
        np.concatenate([model.boxes for model in candidates])[order],
        scores[order],
        labels[order],
        num_classes,
    )


def averaged(
    candidates: Sequence[Candidates], weights: Sequence[float], floor: float
) -> Candidates:
    """All models' candidates with one entry a class and window: their weighted mean.

    A window that a model did not keep is among its worst: it counts with ``floor`` for its score
    there, and its box is the mean of the others'.

    Args:
        candidates: of each model, of the same image and, to gain by it, of the same windows.
        weights: of each model, above 0.
        floor: no score is below it.

    Raises:
        ValueError: models of different numbers of classes, or weights that do not fit.
    """
    num_classes = _classes_of_all(candidates)
    if len(weights) != len(candidates) or not min(weights) > 0:
        raise ValueError(
            f"combining {len(candidates)} models needs one weight above 0 for each, got "
            f"{list(weights)}"
        )
    rows = [np.column_stack([model.labels, model.windows]) for model in candidates]
    unique, index = np.unique(np.concatenate(rows), axis=0, return_inverse=True)
    places = np.split(index.reshape(-1), np.cumsum([len(each) for each in rows])[:-1])
    scores = np.zeros(len(unique))
    boxes = np.zeros((len(unique), 4))
    kept = np.zeros(len(unique))
    for model, at, weight in zip(candidates, places, weights, strict=True):
        # A window that came twice has the same score and box both times, and counts once.
        at, first = np.unique(at, return_index=True)
        scores[at] += weight * np.maximum(model.scores[first].astype(np.float64) - floor, 0)
        boxes[at] += weight * model.boxes[first].astype(np.float64)
        kept[at] += weight
    scores = scores / sum(weights) + floor
    labels = unique[:, 0].astype(np.int64)
    order: NDArray[np.int64] = np.lexsort((-scores, labels))
    return Candidates(
        unique[order, 1:].astype(np.float32),
        (boxes / kept[:, None])[order].astype(np.float32),
        scores[order].astype(np.float32),
        labels[order],
        num_classes,
    )


def _classes_of_all(candidates: Sequence[Candidates]) -> int:
    """K of every model.

    Raises:
        ValueError: they differ.
    """
    (num_classes, *others) = {model.num_classes for model in candidates}
    if others:
        raise ValueError(f"models of {num_classes} and {others[0]} classes cannot be combined")
    return num_classes
