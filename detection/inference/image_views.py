"""An image as a detector sees it: as it is, and mirrored left to right where that is asked for.

Windows and boxes are those of the image itself in both views. What the network makes of the two
differs, as it is not symmetric; means of scores and boxes err less than either.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detection.boxes import clip_boxes, flip_boxes
from detection.features.extractor import Extractor, WindowFeatures
from detection.inference.postprocess import Candidates
from detection.learners.bbox_regression import BoxRegressor

# Scores (P, K) of each layer and boxes (P, K, 4) of windows (P, 4) with their features.
Values = tuple[dict[str, NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class ImageView:
    """One view, whose maps are computed once.

    Attributes:
        features_of: features of windows of the view.
        mirrored: width of the image in pixels where the view is mirrored, else None.
    """

    features_of: Callable[[NDArray], WindowFeatures]
    mirrored: int | None = None

    def turned(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes ``(..., 4)`` of the image in the view, and those of the view in the image."""
        return boxes if self.mirrored is None else flip_boxes(boxes, self.mirrored)


def views_of(image: NDArray[np.uint8], extractor: Extractor, *, flip: bool) -> list[ImageView]:
    """The views of an image ``(H, W, 3)``; the mirrored one only with ``flip``."""
    views = [ImageView(extractor.of_image(image))]
    if flip:
        mirrored = np.ascontiguousarray(image[:, ::-1])
        views.append(ImageView(extractor.of_image(mirrored), image.shape[1]))
    return views


def mean_values(
    views: Sequence[ImageView],
    windows: NDArray[np.float32],
    values_of: Callable[[NDArray[np.float32], WindowFeatures], Values],
) -> Values:
    """Mean scores and boxes over the views of an image, of its windows ``(P, 4)``."""
    scores, boxes = [], []
    for view in views:
        turned = view.turned(windows)
        scores_of, moved = values_of(turned, view.features_of(turned))
        scores.append(scores_of)
        boxes.append(view.turned(moved))
    means = {layer: np.mean([each[layer] for each in scores], axis=0) for layer in scores[0]}
    return means, np.mean(boxes, axis=0)


def moved_again(
    candidates: Candidates,
    views: Sequence[ImageView],
    regressor: BoxRegressor,
    image_size: tuple[int, int],
) -> Candidates:
    """Candidates whose boxes, cut to the image, take one more step by box regression.

    A box of less than a pixel's side within the image, (height, width), stays where it is.
    """
    boxes = candidates.boxes.copy()
    inside = clip_boxes(boxes, image_size)
    rows = np.flatnonzero((inside[:, 2:] - inside[:, :2] >= 1).all(axis=1))
    if len(rows):
        moved = []
        for view in views:
            turned = view.turned(inside[rows])
            found = view.features_of(turned)
            predicted = regressor.predict(found.pooled, turned, found.index)
            of_labels = predicted[np.arange(len(rows)), candidates.labels[rows]]
            moved.append(view.turned(of_labels))
        boxes[rows] = np.mean(moved, axis=0)
    return replace(candidates, boxes=boxes)
