"""A classifier's probabilities of images, each the mean over its views.

A view pooled from the map of a larger image differs from the same view as a crop: where the crop
ends, a crop's cells see padding, the map's what lies beyond. They are equal in the cells whose
receptive field is inside the crop, as far as the crop begins at a multiple of the stride, and
nearly equal in the others. The paper saw 0.1 % between both over ten views.
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

# Images resized at a time, pixels that go through the trunk together, and rows through the head:
# so much memory, whatever the number and the size of the images.
CHUNK = 64
BATCH_PIXELS = 1 << 20
HEAD_ROWS = 256


class ViewScorer:
    """Probabilities of the classes, the mean of the softmax over the views of an image.

    Args:
        network: set to evaluation; stays where it is.
        views: which.
        crop: the training size: the side of crops, and of views pooled from maps.
        size: the shorter side that images are resized to for crops and full images.

    Raises:
        ValueError: views that are no crops, of a network without a pyramid; a size that is too
            small for crops or for the network.
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
        # Cells of a side of a crop's map, and pixels between them.
        self._side = map_shape(name, trunk, crop)[1]
        with TRACING:
            self._stride = receptive_field(trunk).stride

    @property
    def sizes(self) -> str:
        """The shorter sides in pixels, in a word: 256, or 224-560 of the six scales of maps."""
        if not self.views.startswith("multi"):
            return str(self.size)
        scales = "-".join(str(in_proportion(PAPER_SCALES[end], self.crop)) for end in (0, -1))
        return scales if self.views == "multi" else f"{scales}+{self.size}"

    def probabilities(self, images: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """Probabilities ``(K,)`` of each image ``(H, W, 3)`` uint8 RGB, in order.

        Images are taken some at a time, and those of one shape go through the network together.
        """
        images = iter(images)
        while chunk := [
            inputs_of(image, self.views, self.crop, self.size) for image in islice(images, CHUNK)
        ]:
            yield from self._of_chunk(chunk)

    @torch.inference_mode()
    def _of_chunk(self, chunk: Sequence[Sequence[Input]]) -> NDArray[np.float32]:
        """Probabilities ``(N, K)`` of images by what the trunk has to see of each."""
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
        """Pooled views ``(V, D)``, with the number of the image that each is of."""
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
        """The cells ``(C, n, n)`` of a view on a map: as many as the map of a crop has.

        They begin at the view's distance from the image's border in strides, rounded: where it is a
        multiple of the stride they lie where the crop's own cells do.
        """
        top, left = (
            min((2 * pixel + self._stride) // (2 * self._stride), cells - self._side)
            for pixel, cells in zip(corner, map.shape[1:], strict=True)
        )
        return map[:, top : top + self._side, left : left + self._side]


def _gathered(parts: Iterable[tuple[list[int], Tensor]]) -> Iterator[tuple[list[int], Tensor]]:
    """Rows put together to HEAD_ROWS or more: fc weights are read from memory once for all."""
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
