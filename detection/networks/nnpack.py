"""Convolutions by NNPACK, which comes with PyTorch, where these take less time.

It multiplies in Winograd's and Fourier's domains, as PyTorch's own library on CPUs does not: two to
three times fewer operations on large maps. Without instructions for bfloat16, as on most laptops,
AlexNet's maps take two thirds of the time (docs/decisions.md).
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

# From measurements: below, transforming weights and maps takes longer than it saves. Terms are
# those of a sum, kernel times channels: VGG-16's conv1_2, 3x3 of 64, is slower.
LEAST_CELLS = 32 * 32
LEAST_TERMS = 1024


class NnpackConv2d(nn.Conv2d):
    """A convolution, by NNPACK where it pays and no gradient is recorded; else as ever.

    It pays for float32 on a CPU, stride 1, kernels above 1x1, many channels and a large map. The
    sums are of float32 in another order: results differ by 1e-5 of the largest. Images of a batch
    are computed one after the other, so a batch gives the bits of single images.

    Attributes:
        feeds_another: whether the next layer, but for a ReLU, is such a convolution: NNPACK takes
            and gives channels first, all other layers are quicker with channels last.
    """

    feeds_another = False

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        padding = self.padding
        if isinstance(padding, str) or not (self._suits() and suits(input)):
            return super()._conv_forward(input, weight, bias)
        maps = [
            torch._nnpack_spatial_convolution(image.contiguous(), weight, bias, padding)
            for image in input.split(1)
        ]
        found = maps[0] if len(maps) == 1 else torch.cat(maps)
        if self.feeds_another:
            return found
        # Pooling takes a tenth of the time with channels last.
        return found.contiguous(memory_format=torch.channels_last)

    def _suits(self) -> bool:
        """Whether NNPACK has this layer, and is faster for large maps."""
        return (
            self.stride == (1, 1)
            and self.dilation == (1, 1)
            and self.groups == 1
            and self.padding_mode == "zeros"
            and min(self.kernel_size) > 1
            and max(self.kernel_size) <= 16
            and self._terms() >= LEAST_TERMS
        )

    def _terms(self) -> int:
        height, width = self.kernel_size
        return height * width * min(self.in_channels, self.out_channels)


def suits(input: Tensor) -> bool:
    """Whether NNPACK may and should convolve images ``(B, C, h, w)``."""
    return (
        not torch.is_grad_enabled()
        and input.device.type == "cpu"
        and input.dtype == torch.float32
        and input.shape[0] > 0
        and input.shape[2] * input.shape[3] >= LEAST_CELLS
        # The question also starts NNPACK, which fails without it.
        and torch.backends.nnpack.is_available()
    )


def by_nnpack(trunk: nn.Module) -> nn.Module:
    """The same trunk, its convolutions made such that NNPACK may compute them."""
    for layer in trunk.modules():
        if type(layer) is nn.Conv2d:
            layer.__class__ = NnpackConv2d
    for block in trunk.modules():
        if isinstance(block, nn.Sequential):
            layers = [layer for layer in block if not isinstance(layer, nn.ReLU)]
            for layer, after in pairwise(layers):
                if isinstance(layer, NnpackConv2d) and isinstance(after, NnpackConv2d):
                    layer.feeds_another = after._suits()
    return trunk
