"""The box convention, and the only places where it is entered or left.

A box is ``(x1, y1, x2, y2)``, pixels of the original image, half-open: its width is ``x2 - x1``.
VOC writes 1-based inclusive corners ``(xmin, ymin, xmax, ymax)``; ``from_voc`` and ``to_voc``
convert at the border, so that no ``+ 1`` stands anywhere else and half-open overlap equals the
devkit's "+1" overlap exactly.
"""

import numpy as np
import torch
from numpy.typing import ArrayLike, DTypeLike, NDArray

from detection.networks.torchvision_ops import box_iou


def from_voc(corners: NDArray, dtype: DTypeLike = np.float32) -> NDArray:
    """Half-open boxes of VOC's 1-based inclusive corners.

    Args:
        corners: ``(N, 4)`` xmin, ymin, xmax, ymax, 1-based, both corners inside the box.
        dtype: float32 everywhere but in the metric, which reads result files in float64.

    Returns:
        ``(N, 4)`` boxes ``(xmin - 1, ymin - 1, xmax, ymax)``.
    """
    boxes = np.array(corners, dtype=dtype).reshape(-1, 4)
    boxes[:, :2] -= 1
    return boxes


def to_voc(boxes: NDArray) -> NDArray:
    """VOC's 1-based inclusive corners, ``(N, 4)`` float64, of half-open boxes ``(N, 4)``."""
    corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    corners[:, :2] += 1
    return corners


def boxes_of(rows: ArrayLike, name: str) -> NDArray[np.float32]:
    """Boxes ``(N, 4)`` float32 of an array or of rows of four numbers; of no rows, none.

    Args:
        rows: ``x1, y1, x2, y2`` each.
        name: of the argument, for the message.

    Raises:
        ValueError: they are something else.
    """
    expected = f"{name} must be rows of four numbers x1, y1, x2, y2, an array (N, 4)"
    try:
        boxes = np.asarray(rows, np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{expected} ({error})") from error
    if not boxes.size:
        return boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{expected}, got one of shape {boxes.shape}")
    return boxes


def clip_boxes(boxes: NDArray, image_size: tuple[int, int]) -> NDArray:
    """Boxes ``(..., 4)`` cut to an image of ``image_size`` (height, width); a new array."""
    height, width = image_size
    clipped = boxes.copy()
    clipped[..., 0::2] = clipped[..., 0::2].clip(0, width)
    clipped[..., 1::2] = clipped[..., 1::2].clip(0, height)
    return clipped


def iou(boxes: NDArray, others: NDArray) -> NDArray:
    """Intersection over union, ``(N, M)``, of boxes ``(N, 4)`` with others ``(M, 4)``.

    0 where both areas are 0. Computed in the boxes' own dtype.
    """
    if not len(boxes) or not len(others):
        return np.zeros((len(boxes), len(others)), dtype=boxes.dtype)
    overlap = box_iou(to_tensor(boxes), to_tensor(others))
    return np.asarray(torch.nan_to_num(overlap).numpy())


def to_tensor(array: NDArray) -> torch.Tensor:
    """A tensor of an array in whatever memory order; numbers are shared where they can be.

    PyTorch takes no negative strides and no byte order but the machine's, and warns of arrays that
    may not be written to.
    """
    native = array.dtype.newbyteorder("=")
    return torch.from_numpy(np.require(array, native, ("C_CONTIGUOUS", "WRITEABLE")))


def flip_boxes(boxes: NDArray, width: int) -> NDArray:
    """Boxes ``(..., 4)`` of the image mirrored left to right, its width in pixels."""
    flipped = boxes.copy()
    flipped[..., 0] = width - boxes[..., 2]
    flipped[..., 2] = width - boxes[..., 0]
    return flipped
