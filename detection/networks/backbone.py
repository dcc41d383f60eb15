"""A network's convolutional part, and the numbers that map a window to its cells.

They come from the paper's Table 1 and appendix A, and from the constants in the released code's
mapping. A ``Backbone`` holds everything that differs between networks, so later code need not know
which network it uses.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from detection.networks.pyramid import BINS
from detection.networks.receptive_field import TRACING, receptive_field

# Prefix of the names of the reduction's tensors, which are stored with the trunk's.
REDUCTION = "reduction."


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a network's input: ``(pixel - mean) / std`` for each channel.

    Attributes:
        order: of the channels.
        mean: one value per channel, in this order, for pixels of 0..255.
        std: likewise, in the same units.
    """

    order: Literal["rgb", "bgr"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def normalised(pixels: Tensor, order: Literal["rgb", "bgr"], mean: Tensor, std: Tensor) -> Tensor:
    """RGB pixels ``(B, 3, H, W)`` after ``Preprocessing``, float32; ``mean, std (1, 3, 1, 1)``."""
    if order == "bgr":
        pixels = pixels.flip(1)
    return pixels.float().sub_(mean).div_(std)


class Backbone(nn.Module):
    """Convolutional layers up to conv5 and its ReLU, with their geometry and preprocessing.

    Args:
        name: of the network.
        trunk: computes conv5 ``(B, C, h, w)``, values >= 0, from preprocessed images
            ``(B, 3, H, W)``.
        preprocessing: of the trunk's input.
        shrink: pixels by which each side of a window moves inwards before the window is mapped to
            cells (``offset`` in the released code, chosen there by hand).
        stages: 0-based numbers of the convolutions that conv1 to conv5 begin with.
        source: description of where the weights came from.
        digest: SHA-256 of the trunk's tensors.

    Attributes:
        reduction: reduces the channels of the map (``reduction.py``), or None.
        standard_cells: cells along a side of the conv5 map of a 224-pixel image. Times the stride,
            this is the window side that the released scale rule aims at.
        stride: pixels between cells.
        centre: 0-based pixel at the centre of cell 0's receptive field.
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
        """D, the length of a pooled window: 50 bins times C channels, 12,800 for 256 channels."""
        return BINS * self.channels

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.mean.device

    def preprocess(self, image: Tensor) -> Tensor:
        """An image as the trunk's input, on the backbone's device.

        Args:
            image: ``(H, W, 3)`` uint8, RGB.

        Returns:
            ``(1, 3, H, W)`` float32, channels last in memory.
        """
        pixels = image.to(self.device).permute(2, 0, 1)[None]
        return normalised(pixels, self.preprocessing.order, self.mean, self.std)

    def forward(self, images: Tensor) -> Tensor:
        """The map ``(B, C, h, w)`` of preprocessed images ``(B, 3, H, W)``."""
        found = self.trunk(images)
        return found if self.reduction is None else self.reduction(found)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that determines the map: the trunk's state and any reduction's."""
        found = dict(self.trunk.state_dict())
        if self.reduction is not None:
            reduction = self.reduction.state_dict()
            found |= {f"{REDUCTION}{name}": value for name, value in reduction.items()}
        return found

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Load the result of ``tensors()``, which may come from another process."""
        trunk = {name: each for name, each in tensors.items() if not name.startswith(REDUCTION)}
        # Copied into the trunk's tensors, which keep their device and memory order. A trunk made
        # without memory takes the given tensors themselves.
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
    """A reduction with this weight ``(C, C_map, 1, 1)`` and bias ``(C,)``; it is never trained."""
    reduction = Reduction(weight.shape[1], weight.shape[0], 1).requires_grad_(False)
    reduction.load_state_dict({"weight": weight, "bias": bias}, assign=True)
    return reduction.requires_grad_(False)


def map_shape(trunk: nn.Module, side: int = 224) -> tuple[int, int]:
    """Channels of a square image's map, and cells along its side, without computing the map.

    The trunk is set to evaluation mode and gets an empty batch. PyTorch's "meta" device would give
    the same shape, but its convolutions import sympy, which takes 0.7 s.

    Raises:
        ValueError: the trunk's output is not a map.
        RuntimeError: the image is too small for the trunk.
    """
    # Buffers are zero, because uninitialised indices could point outside a tensor.
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
