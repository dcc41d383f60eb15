"""A network's convolutional part, with everything a window needs to find its cells.

The paper's Table 1 and appendix A, and the constants of the released code's mapping: what differs
between networks stands on the Backbone object, so that nothing after it asks which network it has.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from detection.networks.pyramid import BINS
from detection.networks.receptive_field import TRACING, receptive_field

# What the reduction's tensors begin with, beside the trunk's.
REDUCTION = "reduction."


@dataclass(frozen=True)
class Preprocessing:
    """What a network's input is: ``(pixel - mean) / std`` of each channel, in the given order.

    Attributes:
        order: of the channels.
        mean: subtracted from pixels of 0..255, one value a channel in that order.
        std: divided by, same units and order.
    """

    order: Literal["rgb", "bgr"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def normalised(pixels: Tensor, order: Literal["rgb", "bgr"], mean: Tensor, std: Tensor) -> Tensor:
    """``Preprocessing`` of RGB pixels ``(B, 3, H, W)``, float32; ``mean, std (1, 3, 1, 1)``."""
    if order == "bgr":
        pixels = pixels.flip(1)
    return pixels.float().sub_(mean).div_(std)


class Backbone(nn.Module):
    """Convolutional layers up to conv5 and its ReLU, with their geometry and preprocessing.

    Args:
        name: of the network.
        trunk: preprocessed images ``(B, 3, H, W)`` to conv5 ``(B, C, h, w)``, values >= 0.
        preprocessing: what the trunk expects.
        shrink: pixels by which a side of a window moves inwards before it is mapped to cells
            (``offset`` in the released code, chosen there by hand).
        stages: for conv1 to conv5, the number of the convolution each begins with, from 0.
        source: where the weights came from, in words.
        digest: SHA-256 of the trunk's tensors.

    Attributes:
        reduction: brings the map to fewer channels (``reduction.py``), or None.
        standard_cells: side of the conv5 map of a 224-pixel image; times the stride it is the
            side the released scale rule aims at.
        stride: pixels between cells.
        centre: 0-based pixel at the centre of what cell 0 sees.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        trunk: nn.Module,
        preprocessing: Preprocessing,
        *,
        shrink: float = 6.5,
        stages: tuple[int, ...] = (0, 1, 2, 3, 4),
        source: str = "",
        digest: str = "",
    ) -> None:
        super().__init__()
        with TRACING:
            field = receptive_field(trunk)
            self._map_channels, self.standard_cells = map_shape(trunk)
        self.name = name
        self.trunk = trunk
        self.preprocessing = preprocessing
        self.reduction: Reduction | None = None
        self.stride = field.stride
        self.centre = field.centre
        self.shrink = shrink
        self.stages = stages
        self.source = source
        self.digest = digest
        shape = (1, 3, 1, 1)
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(shape), persistent=False)

    @property
    def channels(self) -> int:
        """C of the map that windows are pooled from."""
        return self._map_channels if self.reduction is None else self.reduction.out_channels

    @property
    def pooled_length(self) -> int:
        """D, the length of a pooled window: 50 bins of C channels, 12,800 for 256 channels."""
        return BINS * self.channels

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.mean.device

    def preprocess(self, image: Tensor) -> Tensor:
        """An image as the trunk wants it, on the backbone's device.

        Args:
            image: ``(H, W, 3)`` uint8, RGB.

        Returns:
            ``(1, 3, H, W)`` float32, in memory channels last.
        """
        pixels = image.to(self.device).permute(2, 0, 1)[None]
        return normalised(pixels, self.preprocessing.order, self.mean, self.std)

    def forward(self, images: Tensor) -> Tensor:
        """The map ``(B, C, h, w)`` of preprocessed images ``(B, 3, H, W)``."""
        found = self.trunk(images)
        return found if self.reduction is None else self.reduction(found)

    def tensors(self) -> dict[str, Tensor]:
        """Everything that determines the map: the trunk's state, and the reduction's, if any."""
        found = dict(self.trunk.state_dict())
        if self.reduction is not None:
            reduction = self.reduction.state_dict()
            found |= {f"{REDUCTION}{name}": value for name, value in reduction.items()}
        return found

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what ``tensors`` gave, here or in another process."""
        trunk = {name: each for name, each in tensors.items() if not name.startswith(REDUCTION)}
        # Into what is there, on its device and in its order of memory; a trunk made without memory
        # takes the tensors themselves.
        empty = any(each.is_meta for each in self.trunk.state_dict().values())
        self.trunk.load_state_dict(trunk, assign=empty)
        if len(trunk) < len(tensors):
            weight, bias = (tensors[f"{REDUCTION}{name}"] for name in ("weight", "bias"))
            self.reduction = reduction_of(weight, bias).to(self.device)


class Reduction(nn.Conv2d):
    """A 1x1 convolution with its ReLU."""

    def forward(self, maps: Tensor) -> Tensor:
        """``(B, C, h, w)``, values >= 0, of maps ``(B, C_map, h, w)``."""
        return super().forward(maps).relu()


def reduction_of(weight: Tensor, bias: Tensor) -> Reduction:
    """The reduction of these weights ``(C, C_map, 1, 1)`` and bias; it is never trained."""
    reduction = Reduction(weight.shape[1], weight.shape[0], 1).requires_grad_(False)
    reduction.load_state_dict({"weight": weight, "bias": bias}, assign=True)
    return reduction.requires_grad_(False)


def map_shape(trunk: nn.Module, side: int = 224) -> tuple[int, int]:
    """Channels, and cells of a side, of the map of a square image; nothing is computed.

    The trunk is set to evaluation, and shown a batch of no image. On PyTorch's "meta" device the
    shape would be the same, but convolutions there import sympy, which takes 0.7 s.

    Raises:
        ValueError: the trunk's output is no map.
        RuntimeError: the image is too small for the trunk.
    """
    # Buffers of zeros, as indices that nothing was written to would point anywhere.
    values = {name: torch.empty(each.shape) for name, each in trunk.named_parameters()}
    values |= {
        name: torch.zeros(each.shape, dtype=each.dtype) for name, each in trunk.named_buffers()
    }
    with torch.inference_mode():
        shape, larger = (
            functional_call(trunk.eval(), values, torch.empty(0, 3, each, each)).shape
            for each in (side, 2 * side)
        )
    if len(shape) != 4 or shape[1] != larger[1]:
        raise ValueError(
            "a network must output a map (B, C, h, w), channels first; this one gives "
            f"{tuple(shape)[1:]} for an image of {side} x {side} pixels"
        )
    return shape[1], shape[2]
