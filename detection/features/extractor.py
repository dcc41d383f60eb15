"""Features of windows: compute the maps of an image once, then pool any number of windows.

``SPPExtractor`` and ``detection.features.rcnn.RCNNExtractor`` have the same interface,
``Extractor``. All later steps are the same for both.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from detection.features.map_store import MapStore
from detection.features.mapping import window_to_cells
from detection.features.network_input import prepare, trunk_in
from detection.features.resizing import THINNEST_SIDE, is_bounded, mapped_scale, resized_size
from detection.features.scales import ScaleChoice
from detection.machine import Precision, device_in_keys
from detection.networks.backbone import Backbone
from detection.networks.pyramid import BINS, pool_pyramid, pool_pyramids
from files.names import content_key

# Part of a feature's key: raise it when the same image gives other numbers.
VERSION = 3


@dataclass(frozen=True)
class Maps:
    """Conv5 of one image at every scale.

    Attributes:
        image_size: (height, width) of the original image.
        maps: one ``(C, H_s, W_s)`` per scale, in the extractor's precision and order of scales;
            ``(C, 0, 0)`` at a scale that was not wanted.
    """

    image_size: tuple[int, int]
    maps: list[Tensor]


@dataclass(frozen=True)
class WindowFeatures:
    """Pooled windows of one image; ``pooled[index]`` has a row for every window.

    Attributes:
        pooled: ``(U, D)`` in the extractor's precision, one row for each distinct range of cells,
            sorted by scale, left, top, right, bottom.
        index: ``(P,)`` each window's row in ``pooled``.
    """

    pooled: Tensor
    index: NDArray[np.int64]


class Extractor(Protocol):
    """Computes features of windows, for training and testing.

    Attributes:
        backbone: the network.
        precision: number format of the features and of the network's products.
        trunk: the convolutions in this precision.
    """

    backbone: Backbone
    precision: Precision
    trunk: nn.Module

    @property
    def length(self) -> int:
        """D, the length of a window's feature."""

    @property
    def device(self) -> torch.device:
        """Where the network is."""

    @property
    def facts(self) -> dict[str, Any]:
        """Everything that determines the features, for the keys of artefacts made from these."""

    def features(self, image: NDArray[np.uint8], windows: NDArray) -> WindowFeatures:
        """Features of windows ``(P, 4)``, half-open pixels of an RGB image ``(H, W, 3)`` uint8."""

    def of_image(self, image: NDArray[np.uint8]) -> Callable[[NDArray], WindowFeatures]:
        """``features`` for any windows of one image, whose maps are computed once."""


class SPPExtractor:
    """Pooled conv5 features of windows (paper, section 4.1).

    Args:
        backbone: the network; move it to its device first.
        scales: shorter sides in pixels.
        scale_rule: how a window's scale is chosen, as in the paper or in the released code.
        precision: number format of convolutions, maps and features. With ``bfloat16``, a copy of
            the trunk computes the convolutions. Pooling takes maxima, which are exact in any
            precision.
        store: stores maps for reuse; with None, maps are always computed.

    Attributes:
        choice: chooses a window's scale.

    Raises:
        ValueError: no scale, or a scale that is not a positive number.
    """

    def __init__(
        self,
        backbone: Backbone,
        scales: Sequence[int],
        scale_rule: Literal["paper", "released"] = "paper",
        precision: Precision = "float32",
        store: MapStore | None = None,
    ) -> None:
        self.backbone = backbone
        standard_side = backbone.standard_cells * backbone.stride
        self.choice = ScaleChoice(tuple(scales), scale_rule, standard_side)
        self.precision = precision
        self.trunk, self._dtype = trunk_in(backbone, precision)
        self._store = store

    @property
    def scales(self) -> tuple[int, ...]:
        """Shorter sides in pixels."""
        return self.choice.scales

    @property
    def length(self) -> int:
        """D of a pooled window."""
        return self.backbone.pooled_length

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.backbone.device

    @property
    def facts(self) -> dict[str, Any]:
        """What determines the features."""
        rule = {"scales": list(self.scales), "scale_rule": self.choice.rule}
        return {"features": "spp", **self._facts_of_maps, **rule}

    @property
    def _facts_of_maps(self) -> dict[str, Any]:
        """What determines the map of an image at a scale."""
        return {
            "version": VERSION,
            "network": self.backbone.name,
            "weights": self.backbone.digest,
            "precision": self.precision,
            "device": device_in_keys(self.device, self.precision),
        }

    def features(self, image: NDArray[np.uint8], windows: NDArray) -> WindowFeatures:
        """Pooled windows of an image, each from its best-fit scale; ``maps``, then ``pool``.

        Maps are computed only at scales that some window has.
        """
        windows = np.asarray(windows, np.float64).reshape(-1, 4)
        wanted = np.unique(self.choice.best_fit(windows, (image.shape[0], image.shape[1])))
        return self.pool(self.maps(image, wanted.tolist()), windows)

    def of_image(self, image: NDArray[np.uint8]) -> Callable[[NDArray], WindowFeatures]:
        """``features`` for any windows of one image; errors: see ``maps`` and ``pool``."""
        return partial(self.pool, self.maps(image))

    @torch.no_grad()
    def maps(self, image: NDArray[np.uint8], wanted: Collection[int] | None = None) -> Maps:
        """Conv5 of an image ``(H, W, 3)`` RGB at every scale, on the backbone's device.

        The preprocessed image is resized, bilinear without antialiasing, to at most LONGEST_SIDE
        pixels at the longer side.

        Args:
            image: the image.
            wanted: numbers of the scales whose maps are computed; None for all.

        Raises:
            ValueError: the image is not uint8 with three channels.
        """
        prepared = prepare(self.backbone, image)
        none = torch.empty(self.length // BINS, 0, 0, dtype=self._dtype, device=self.device)
        maps = [
            self._map(image, prepared, scale) if wanted is None or number in wanted else none
            for number, scale in enumerate(self.scales)
        ]
        return Maps((image.shape[0], image.shape[1]), maps)

    def features_at(self, image: NDArray[np.uint8], windows: NDArray, side: int) -> Tensor:
        """Pooled windows ``(P, D)`` of an image whose shorter side is resized to ``side`` pixels.

        Fine-tuning uses these. They are differentiable with respect to the trunk's weights if the
        weights require gradients, the precision is ``float32`` (which uses the backbone's own
        trunk), and there is no store of maps.
        """
        size = (image.shape[0], image.shape[1])
        map = self._map(image, prepare(self.backbone, image), side)
        cells = self._cells_at(windows, size, side, map)
        return pool_pyramid(map, torch.from_numpy(cells).to(map.device))

    def _map(self, image: NDArray[np.uint8], prepared: Tensor, scale: int) -> Tensor:
        """Conv5 ``(C, H_s, W_s)`` of an image at a scale; ``prepared`` is the backbone's input."""
        size = resized_size((image.shape[0], image.shape[1]), scale)

        def compute() -> Tensor:
            """Compute the map ``(C, H_s, W_s)`` with the trunk."""
            resized = F.interpolate(prepared, size=size, mode="bilinear", align_corners=False)
            if is_bounded((image.shape[0], image.shape[1]), scale):
                height, width = (max(THINNEST_SIDE - side, 0) for side in size)
                resized = F.pad(resized, (0, width, 0, height))
            resized = resized.to(self._dtype).contiguous(memory_format=torch.channels_last)
            return self.trunk(resized)[0]

        if self._store is None:
            return compute()
        trunk = content_key(self._facts_of_maps)
        return self._store.get(trunk, image, scale, compute).to(self.device)

    def cells(self, maps: Maps, windows: NDArray) -> NDArray[np.int64]:
        """The cells of windows: ``(P, 5)`` scale index, left, top, right, bottom, inclusive.

        Args:
            maps: maps of the image.
            windows: ``(P, 4)`` half-open pixels of the original image.

        Raises:
            ValueError: a window has no area.
        """
        windows = np.asarray(windows, np.float64).reshape(-1, 4)
        places = np.empty((len(windows), 5), np.int64)
        places[:, 0] = self.choice.best_fit(windows, maps.image_size)
        for number, (side, map) in enumerate(zip(self.scales, maps.maps, strict=True)):
            here = places[:, 0] == number
            places[here, 1:] = self._cells_at(windows[here], maps.image_size, side, map)
        return places

    def _cells_at(
        self, windows: NDArray, image_size: tuple[int, int], side: int, map: Tensor
    ) -> NDArray[np.int64]:
        """Cells ``(P, 4)`` of windows on the map of an image whose shorter side is ``side``."""
        return window_to_cells(
            windows,
            image_size,
            mapped_scale(image_size, side),
            (map.shape[1], map.shape[2]),
            stride=self.backbone.stride,
            centre=self.backbone.centre,
            shrink=self.backbone.shrink,
        )

    @torch.no_grad()
    def pool(self, maps: Maps, windows: NDArray) -> WindowFeatures:
        """Pooled features of windows; windows on the same cells of one scale are pooled once.

        This is exact, because the same cells give the same feature. Arguments and errors: see
        ``cells``.
        """
        places = self.cells(maps, windows)
        unique, index = np.unique(places, axis=0, return_inverse=True)
        cells = [
            torch.from_numpy(unique[unique[:, 0] == number, 1:]).to(map.device)
            for number, map in enumerate(maps.maps)
        ]
        return WindowFeatures(pool_pyramids(maps.maps, cells), index.reshape(-1).astype(np.int64))
