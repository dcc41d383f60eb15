"""A classifier's probabilities for images, each the mean over its views.

A view pooled from the map of a larger image differs from the same view as a crop. At the border,
the crop's cells see padding, but the map's cells see the image beyond. If the crop begins at a
multiple of the stride, cells whose receptive field is inside the crop are equal; the others are
nearly equal. The paper measured a difference of 0.1 % over ten views.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from classification.network import PyramidClassifier, map_shape
from classification.views import PAPER_SCALES, Corner, Input, ViewKind, in_proportion, inputs_of
from detection.networks.receptive_field import TRACING, receptive_field

# Images resized at a time, pixels per pass through the trunk, and rows per pass through the head.
# They bound the memory, independently of the number and size of the images.
CHUNK = 64
BATCH_PIXELS = 1 << 20
HEAD_ROWS = 256


class ViewScorer:
    """Computes class probabilities: the mean of the softmax over the views of an image.

    Args:
        network: is set to evaluation mode, and stays on its device.
        views: the kind of views.
        crop: the training size: side of crops, and of views pooled from maps, in pixels.
        size: the shorter side to which images are resized for crops and full images.

    Raises:
        ValueError: the network has no pyramid and the views are not crops, or the size is too small
            for crops or for the network.
    """

    def __init__(
        self,
        network: PyramidClassifier,
        views: ViewKind,
        crop: int,
        size: int,
    ) -> None:
        self.network = network.eval()
        self.views = views
        self.crop = crop
        self.size = size
        if network.crop is not None and views not in ("centre", "ten"):
            raise ValueError(
                f"the network has no pyramid and takes images of {network.crop} x {network.crop} "
                f"pixels only, so there are no {views} views; choose centre or ten"
            )
        if size < crop and views in ("centre", "ten"):
            raise ValueError(
                f"a shorter side of {size} pixels is too small for crops of {crop} pixels; "
                f"give a size of {crop} or more"
            )
        name, trunk = network.settings["name"], network.trunk
        map_shape(name, trunk, min(size, crop))
        # Cells along a side of a crop's map, and pixels between cells.
        self._side = map_shape(name, trunk, crop)[1]
        with TRACING:
            self._stride = receptive_field(trunk).stride

    @property
    def sizes(self) -> str:
        """The shorter sides in pixels as text: 256, or 224-560 for the six scales of maps."""
        if not self.views.startswith("multi"):
            return str(self.size)
        scales = "-".join(str(in_proportion(PAPER_SCALES[end], self.crop)) for end in (0, -1))
        return scales if self.views == "multi" else f"{scales}+{self.size}"

    def probabilities(self, images: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """Probabilities ``(K,)`` of each image ``(H, W, 3)`` uint8 RGB, in order.

        Images are read in chunks; images of the same shape pass through the network together.
        """
        images = iter(images)
        while chunk := [
            inputs_of(image, self.views, self.crop, self.size) for image in islice(images, CHUNK)
        ]:
            yield from self._of_chunk(chunk)

    @torch.inference_mode()
    def _of_chunk(self, chunk: Sequence[Sequence[Input]]) -> NDArray[np.float32]:
        """Probabilities ``(N, K)`` of images, given by their ``inputs_of``."""
        sums: NDArray[np.float64] | None = None
        counts = np.zeros(len(chunk), np.int64)
        for owners, rows in _gathered(self._rows(chunk)):
            found = self.network.head(rows).double().softmax(dim=1).cpu().numpy()
            if sums is None:
                sums = np.zeros((len(chunk), found.shape[1]))
            np.add.at(sums, owners, found)
            np.add.at(counts, owners, 1)
        assert sums is not None
        return (sums / counts[:, None]).astype(np.float32)

    def _rows(self, chunk: Sequence[Sequence[Input]]) -> Iterator[tuple[list[int], Tensor]]:
        """Pooled views ``(V, D)``, with the index of each view's image."""
        by_shape: dict[tuple[int, ...], list[tuple[int, Input]]] = {}
        for number, inputs in enumerate(chunk):
            for each in inputs:
                by_shape.setdefault(each.pixels.shape, []).append((number, each))
        for (height, width, _), found in by_shape.items():
            step = max(BATCH_PIXELS // (height * width), 1)
            for begin in range(0, len(found), step):
                batch = found[begin : begin + step]
                maps = self._map(np.stack([each.pixels for _, each in batch]))
                whole = [place for place, (_, each) in enumerate(batch) if each.whole]
                if whole:
                    yield [batch[place][0] for place in whole], self.network.pooling(maps[whole])
                views = [
                    (number, map, corner)
                    for map, (number, each) in zip(maps, batch, strict=True)
                    for corner in each.corners
                ]
                if views:
                    parts = torch.stack([self._part(map, corner) for _, map, corner in views])
                    yield [number for number, _, _ in views], self.network.pooling(parts)

    def _map(self, images: NDArray[np.uint8]) -> Tensor:
        """Maps ``(B, C, h, w)`` of images ``(B, H, W, 3)`` uint8 RGB."""
        return self.network.trunk(self.network.preprocess(torch.from_numpy(images)))

    def _part(self, map: Tensor, corner: Corner) -> Tensor:
        """The cells ``(C, n, n)`` of a view on a map, as many as in the map of a crop.

        The first cell is the view's first pixel divided by the stride, rounded. If the pixel is a
        multiple of the stride, the cells are at the same positions as the crop's own.
        """
        top, left = (
            min((2 * pixel + self._stride) // (2 * self._stride), cells - self._side)
            for pixel, cells in zip(corner, map.shape[1:], strict=True)
        )
        return map[:, top : top + self._side, left : left + self._side]


def _gathered(parts: Iterable[tuple[list[int], Tensor]]) -> Iterator[tuple[list[int], Tensor]]:
    """Rows in groups of HEAD_ROWS or more, so that fc weights are read once for many rows."""
    owners: list[int] = []
    rows: list[Tensor] = []
    for numbers, found in parts:
        owners += numbers
        rows.append(found)
        if len(owners) >= HEAD_ROWS:
            yield owners, torch.cat(rows)
            owners, rows = [], []
    if owners:
        yield owners, torch.cat(rows)
