"""A network's convolutional part, with everything a window needs to find its cells.

The paper's Table 1 and appendix A, and the constants of the released code's mapping: what differs
between networks stands on the Backbone object, so that nothing after it asks which network it has.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from detection.networks.receptive_field import receptive_field

BINS = 50


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


class Backbone(nn.Module):
    """Convolutional layers up to conv5 and its ReLU, with their geometry and preprocessing.

    Args:
        name: of the network.
        trunk: preprocessed pictures ``(B, 3, H, W)`` to conv5 ``(B, C, h, w)``, values >= 0.
        preprocessing: what the trunk expects.
        shrink: pixels by which a side of a window moves inwards before it is mapped to cells
            (``offset`` in the released code, chosen there by hand).
        standard_cells: side of the conv5 map of a 224-pixel picture; times the stride it is the
            side the released scale rule aims at.
        stages: for conv1 to conv5, the number of the convolution each begins with, from 0.
        source: where the weights came from, in words.
        digest: SHA-256 of the trunk's tensors.

    Attributes:
        channels: C of conv5.
        field_size: pixels one cell sees.
        stride: pixels between cells.
        centre: 0-based pixel at the centre of what cell 0 sees.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        trunk: nn.Sequential,
        preprocessing: Preprocessing,
        *,
        shrink: float = 6.5,
        standard_cells: int = 13,
        stages: tuple[int, ...] = (0, 1, 2, 3, 4),
        source: str = "",
        digest: str = "",
    ) -> None:
        super().__init__()
        field = receptive_field(trunk)
        self.name = name
        self.trunk = trunk
        self.preprocessing = preprocessing
        self.channels = [layer for layer in trunk if isinstance(layer, nn.Conv2d)][-1].out_channels
        self.field_size = field.size
        self.stride = field.stride
        self.centre = field.centre
        self.shrink = shrink
        self.standard_cells = standard_cells
        self.stages = stages
        self.source = source
        self.digest = digest
        shape = (1, 3, 1, 1)
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(shape), persistent=False)

    @property
    def pooled_length(self) -> int:
        """D, the length of a pooled window: 50 bins of C channels, 12,800 for 256 channels."""
        return BINS * self.channels

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.mean.device

    def preprocess(self, image: Tensor) -> Tensor:
        """A picture as the trunk wants it, on the backbone's device.

        Args:
            image: ``(H, W, 3)`` uint8, RGB.

        Returns:
            ``(1, 3, H, W)`` float32, in memory channels last.
        """
        pixels = image.to(self.device).permute(2, 0, 1)[None]
        if self.preprocessing.order == "bgr":
            pixels = pixels.flip(1)
        return pixels.float().sub_(self.mean).div_(self.std)

    def forward(self, pictures: Tensor) -> Tensor:
        """Conv5 ``(B, C, h, w)`` of preprocessed pictures ``(B, 3, H, W)``."""
        return self.trunk(pictures)
