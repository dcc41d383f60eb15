"""R-CNN's features: every window is warped to one size and passes through all convolutions.

They serve the comparison in the paper's section 4.1 and Tables 9 and 10. The warp is R-CNN's (tech
report, appendix A), with the rounding of its released code. pool5 is R-CNN's layer of 9,216
numbers.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from detection.features.extractor import WindowFeatures
from detection.features.network_input import prepare, trunk_in
from detection.features.scales import areas
from detection.machine import Precision, device_in_keys
from detection.networks.backbone import Backbone

# Part of a feature's key: raise it when the same image gives other numbers.
VERSION = 2

CROP = 227
"""Side of a warped window in pixels."""

CONTEXT = 16
"""Pixels at each side of the crop that show the context of the window."""

# Crops per pass. One CPU thread is fastest with 8 to 16 (32 takes 5 % longer) and two threads share
# a pass. Beyond 32 the tensors exceed the 32 MiB that malloc reuses; 128 take 50 % longer.
BATCH = 32

# A normalised coordinate whose neighbours are all outside the image: grid_sample gives exact zeros.
_OUTSIDE = 3.0


def enlarge(windows: NDArray) -> NDArray[np.int64]:
    """Windows with their context: scaled about their centres by 227 / 195, to whole pixels.

    Corners are rounded, halves up, and a side has at least one pixel. The released code's windows
    extend one pixel further right and down, because it adds half of a width to a pixel's index.

    Args:
        windows: ``(P, 4)`` half-open pixels of the original image.

    Returns:
        ``(P, 4)`` half-open pixels, which may lie outside the image.

    Raises:
        ValueError: a window has no area.
    """
    windows = np.asarray(windows, np.float64).reshape(-1, 4)
    areas(windows)
    low, high = windows[:, :2], windows[:, 2:]
    centre, side = (low + high) / 2, high - low
    # Divided only once, at the end, so that halves are exact and are rounded up.
    reach = side * CROP / (2 * (CROP - 2 * CONTEXT))
    first = np.floor(centre - reach + 0.5)
    last = np.maximum(np.floor(centre + reach + 0.5), first + 1)
    return np.hstack((first, last)).astype(np.int64)


def warp(image: Tensor, enlarged: Tensor) -> Tensor:
    """Crops of a preprocessed image, bilinear without antialiasing, scaled separately per side.

    The part of an enlarged window inside the image is resized to its share of the crop and put at
    its position there. The rest of the crop is 0, the mean.

    Args:
        image: ``(1, 3, H, W)`` with the mean subtracted.
        enlarged: ``(B, 4)`` int64 from ``enlarge``, on the image's device.

    Returns:
        ``(B, 3, 227, 227)``.
    """
    height, width = image.shape[2:]
    x1, y1, x2, y2 = enlarged.T
    shape = (len(enlarged), CROP, CROP)
    columns = _positions(x1, x2, width)[:, None, :].expand(shape)
    rows = _positions(y1, y2, height)[:, :, None].expand(shape)
    # One call for all crops takes a third less time than F.interpolate for each crop, whose
    # hundreds of small calls also wait for threads, or for a GPU.
    return F.grid_sample(
        image.expand(len(enlarged), -1, -1, -1),
        torch.stack((columns, rows), dim=-1),
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )


def _positions(first: Tensor, last: Tensor, limit: int) -> Tensor:
    """Position, along one side of the image, from which each pixel of a crop is sampled.

    The share of the crop and its position are rounded, halves up; the share has at least one pixel.
    R-CNN cuts a window out before it resizes it, so samples do not use pixels outside the enlarged
    window.

    Args:
        first: ``(B,)`` first pixel of enlarged windows.
        last: ``(B,)`` the pixel after the last.
        limit: pixels along the image's side.

    Returns:
        ``(B, 227)`` in the coordinates of ``grid_sample``: -1 and 1 are the image's edges.
    """
    side = last - first
    start = first.clamp(0, limit - 1)
    inside = torch.maximum(last.clamp(max=limit) - start, torch.ones_like(side))
    place = ((2 * (start - first) * CROP + side) // (2 * side)).clamp(0, CROP - 1)
    share = ((2 * inside * CROP + side) // (2 * side)).clamp(min=1)
    share = torch.minimum(share, CROP - place)
    pixel = torch.arange(CROP, device=first.device) - place[:, None]  # [B, 227]
    step = (inside / share)[:, None]
    source = torch.minimum(((pixel + 0.5) * step - 0.5).clamp(min=0), inside[:, None] - 1)
    normalised = (2 * (start[:, None] + source) + 1) / limit - 1
    return normalised.where((pixel >= 0) & (pixel < share[:, None]), _OUTSIDE)


class RCNNExtractor:
    """Pool5 of windows warped one by one (R-CNN tech report, section 2.1 and appendix A).

    Args:
        backbone: the network; move it to its device first.
        precision: of the convolutions and the features. With ``bfloat16``, a copy of the trunk
            computes the convolutions. Warping is float32.

    Attributes:
        scales: empty, because images are not resized.
    """

    def __init__(self, backbone: Backbone, precision: Precision = "float32") -> None:
        self.backbone = backbone
        self.precision = precision
        self.scales: tuple[int, ...] = ()
        self.trunk, self._dtype = trunk_in(backbone, precision)
        self._length = self._pool5(torch.zeros((1, 3, CROP, CROP), device=self.device)).shape[1]

    @property
    def length(self) -> int:
        """D of a window's pool5: 9,216 for 256 channels of 13x13 cells."""
        return self._length

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.backbone.device

    @property
    def facts(self) -> dict[str, Any]:
        """What determines the features."""
        return {
            "features": "rcnn",
            "version": VERSION,
            "network": self.backbone.name,
            "weights": self.backbone.digest,
            "crop": CROP,
            "context": CONTEXT,
            "precision": self.precision,
            "device": device_in_keys(self.device, self.precision),
        }

    def of_image(self, image: NDArray[np.uint8]) -> Callable[[NDArray], WindowFeatures]:
        """``features`` for any windows of one image; R-CNN has no maps for them to share."""
        return partial(self.features, image)

    @torch.no_grad()
    def features(self, image: NDArray[np.uint8], windows: NDArray) -> WindowFeatures:
        """Pool5 of windows; windows that are equal after ``enlarge`` are computed once.

        Args:
            image: ``(H, W, 3)`` RGB.
            windows: ``(P, 4)`` half-open pixels of the image.

        Returns:
            Features in the order channel, row, column. There is one row for each distinct enlarged
            window, sorted by left, top, right, bottom.

        Raises:
            ValueError: the image is not uint8 with three channels, or a window has no area.
        """
        prepared = prepare(self.backbone, image)
        unique, index = np.unique(enlarge(windows), axis=0, return_inverse=True)
        enlarged = torch.from_numpy(unique).to(self.device)
        pooled = torch.empty((len(unique), self.length), dtype=self._dtype, device=self.device)
        for start in range(0, len(unique), BATCH):
            batch = slice(start, start + BATCH)
            pooled[batch] = self._pool5(warp(prepared, enlarged[batch]))
        return WindowFeatures(pooled, index.reshape(-1).astype(np.int64))

    @torch.no_grad()
    def _pool5(self, crops: Tensor) -> Tensor:
        """Pool5 ``(B, D)`` of crops ``(B, 3, 227, 227)``."""
        # The type is converted first, then the memory order: one call for both takes twice as long.
        crops = crops.to(self._dtype).contiguous(memory_format=torch.channels_last)
        return F.max_pool2d(self.trunk(crops), kernel_size=3, stride=2).flatten(1)
