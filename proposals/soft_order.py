"""Orders of windows: varied ones first, by Soft-NMS (Bodla et al., ICCV 2017); no duplicates."""

import numpy as np
from numpy.typing import NDArray


def soft_order(
    windows: NDArray, scores: NDArray, count: int, decay: float, from_iou: float
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The windows of the highest scores, where each window taken lowers the overlapping ones.

    In each step, the window of the highest score is taken (on ties, the first). The scores of the
    others are multiplied by ``1 - decay * (IoU - from_iou)`` if their IoU with it is above
    ``from_iou``. This is a milder form of Soft-NMS's linear rule. No window is dropped: if one
    object has many windows, most of them come later than the best windows of other objects.

    Args:
        windows: ``(P, 4)`` corners ``(x1, y1, x2, y2)``, area above 0.
        scores: ``(P,)``, 0 or more.
        count: largest number of windows; a smaller count gives the beginning of the same list.
        decay: 0 or more, below 1; 0 gives the order of the scores.
        from_iou: 0 or more, below 1.

    Returns:
        ``(min(count, P),)`` rows of the windows in the order they were taken, and their lowered
        scores, from high to low. Computed in float32.
    """
    left, top, right, bottom = np.asarray(windows, np.float32).reshape(-1, 4).T.copy()
    areas = (right - left) * (bottom - top)
    remaining = np.asarray(scores, np.float32).copy()
    order = np.empty(min(count, len(remaining)), np.int64)
    taken = np.empty(len(order), np.float32)
    for place in range(len(order)):
        row = int(remaining.argmax())
        order[place], taken[place] = row, remaining[row]
        width = np.minimum(right, right[row]) - np.maximum(left, left[row])
        height = np.minimum(bottom, bottom[row]) - np.maximum(top, top[row])
        overlap = width.clip(0) * height.clip(0)
        iou = overlap / (areas + areas[row] - overlap)
        remaining *= 1 - decay * (iou - np.float32(from_iou)).clip(0)
        remaining[row] = -np.inf
    return order, taken


def first_of_equals(windows: NDArray) -> NDArray[np.int64]:
    """Rows ``(R,)``, ascending, of windows ``(P, 4)`` that equal no earlier window."""
    return np.sort(np.unique(windows, axis=0, return_index=True)[1])
