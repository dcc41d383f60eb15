"""Features of windows: the maps of an image once, then any number of windows from them."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from detection.features.mapping import window_to_cells
from detection.features.pyramid import pool_pyramid
from detection.features.scales import choose_scale_paper, choose_scale_released
from detection.networks.backbone import Backbone


@dataclass(frozen=True)
class Maps:
    """Conv5 of one image at every scale.

    Attributes:
        image_size: (height, width) of the original image.
        maps: ``(C, H_s, W_s)`` float32, one a scale, in the extractor's order of scales.
    """

    image_size: tuple[int, int]
    maps: list[Tensor]


@dataclass(frozen=True)
class WindowFeatures:
    """Pooled windows of one image; ``pooled[index]`` has a row for every window.

    Attributes:
        pooled: ``(U, D)`` float32, one row for each different set of cells, sorted by scale, left,
            top, right, bottom.
        index: ``(P,)`` the row of each window.
    """

    pooled: Tensor
    index: NDArray[np.int64]


def resized_size(image_size: tuple[int, int], scale: int) -> tuple[int, int]:
    """(height, width) with ``scale`` as the shorter side; the longer rounded, halves up."""
    short = min(image_size)
    height, width = ((2 * side * scale + short) // (2 * short) for side in image_size)
    return height, width


class SPPExtractor:
    """Pooled conv5 features of windows (paper, section 4.1).

    Args:
        backbone: the network; moved to its device before, as the extractor follows it there.
        scales: shorter sides in pixels.
        scale_rule: how a window's scale is chosen, by the paper or by the released code.
        precision: of the convolutions; ``bfloat16`` runs them on a copy of the trunk. Maps and
            features are float32 either way.

    Raises:
        ValueError: no scale, or a scale that is no positive number.
    """

    def __init__(
        self,
        backbone: Backbone,
        scales: Sequence[int],
        scale_rule: Literal["paper", "released"] = "paper",
        precision: Literal["float32", "bfloat16"] = "float32",
    ) -> None:
        if not scales or min(scales) < 1:
            raise ValueError(f"scales must be one or more positive pixels, got {list(scales)}")
        self.backbone = backbone
        self.scales = tuple(scales)
        self.scale_rule = scale_rule
        self.precision = precision
        self._dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
        trunk = backbone.trunk if precision == "float32" else copy.deepcopy(backbone.trunk)
        self._trunk = trunk.to(self._dtype).to(memory_format=torch.channels_last).eval()

    @torch.no_grad()
    def maps(self, image: NDArray[np.uint8]) -> Maps:
        """Conv5 of an image ``(H, W, 3)`` RGB at every scale, on the backbone's device.

        Resizing is bilinear without antialiasing, of the preprocessed picture; the longer side has
        no limit.

        Raises:
            ValueError: the image is not uint8 of three channels.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(
                f"an image must be uint8 (H, W, 3), got {image.dtype} of shape {image.shape}"
            )
        # Torch takes neither the read-only arrays of Pillow nor mirrored views.
        picture = self.backbone.preprocess(torch.from_numpy(image.copy()))
        size = (image.shape[0], image.shape[1])
        return Maps(size, [self._map(picture, resized_size(size, s)) for s in self.scales])

    def _map(self, picture: Tensor, size: tuple[int, int]) -> Tensor:
        """Conv5 ``(C, H_s, W_s)`` of a picture ``(1, 3, H, W)`` resized to ``size``."""
        resized = F.interpolate(picture, size=size, mode="bilinear", align_corners=False)
        resized = resized.to(self._dtype).contiguous(memory_format=torch.channels_last)
        return self._trunk(resized)[0].float().contiguous()

    def best_fit(self, windows: NDArray, image_size: tuple[int, int]) -> NDArray[np.int64]:
        """Index ``(P,)`` of each window's scale by the extractor's rule."""
        if self.scale_rule == "paper":
            return choose_scale_paper(windows, image_size, self.scales)
        standard_side = self.backbone.standard_cells * self.backbone.stride
        return choose_scale_released(windows, image_size, self.scales, standard_side)

    def cells(
        self, maps: Maps, windows: NDArray, scale_index: NDArray | None = None
    ) -> NDArray[np.int64]:
        """Where windows are pooled: ``(P, 5)`` scale index, left, top, right, bottom, inclusive.

        Args:
            maps: of the image.
            windows: ``(P, 4)`` half-open pixels of the original image.
            scale_index: ``(P,)`` scale of each window; None for the best-fitting one.

        Raises:
            ValueError: a window without area, or a scale index out of range.
        """
        windows = np.asarray(windows, np.float64).reshape(-1, 4)
        if scale_index is None:
            scale_index = self.best_fit(windows, maps.image_size)
        elif (
            len(scale_index) != len(windows)
            or not np.isin(scale_index, range(len(self.scales))).all()
        ):
            raise ValueError(
                f"scale_index must hold 0..{len(self.scales) - 1} for each of {len(windows)} "
                f"windows, got {np.unique(scale_index).tolist()} for {len(scale_index)}"
            )
        places = np.empty((len(windows), 5), np.int64)
        places[:, 0] = scale_index
        for number, (scale, map) in enumerate(zip(self.scales, maps.maps, strict=True)):
            here = places[:, 0] == number
            places[here, 1:] = window_to_cells(
                windows[here],
                maps.image_size,
                scale,
                (map.shape[1], map.shape[2]),
                stride=self.backbone.stride,
                centre=self.backbone.centre,
                shrink=self.backbone.shrink,
            )
        return places

    @torch.no_grad()
    def pool(
        self, maps: Maps, windows: NDArray, scale_index: NDArray | None = None
    ) -> WindowFeatures:
        """Pooled features of windows; those on the same cells of one scale are pooled once.

        Arguments and errors as ``cells``. The same cells have the same feature, so nothing is lost.
        """
        places = self.cells(maps, windows, scale_index)
        unique, index = np.unique(places, axis=0, return_inverse=True)
        pooled = [
            pool_pyramid(map, torch.from_numpy(unique[unique[:, 0] == number, 1:]).to(map.device))
            for number, map in enumerate(maps.maps)
        ]
        return WindowFeatures(torch.cat(pooled), index.reshape(-1).astype(np.int64))
