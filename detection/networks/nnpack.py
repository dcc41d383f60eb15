"""Convolutions by NNPACK, which comes with PyTorch, where it is faster.

NNPACK uses Winograd and Fourier transforms, which PyTorch's default library for CPUs does not. On
large maps this takes two to three times fewer operations. On machines without bfloat16
instructions, such as most laptops, AlexNet's maps take little more than half the time
(docs/decisions.md).
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

# Measured: below these limits, the transforms of weights and maps take longer than they save. The
# terms of a sum are kernel size times channels: VGG-16's conv1_2, 3x3 times 64, is slower.
LEAST_CELLS = 32 * 32
LEAST_TERMS = 1024


class NnpackConv2d(nn.Conv2d):
    """A convolution by NNPACK if that is faster and no gradient is recorded, otherwise by PyTorch.

    NNPACK is faster for float32 on a CPU, stride 1, kernels above 1x1, many channels and large
    maps. It sums in another order, so results differ by 1e-5 of the largest value. The images of a
    batch are computed one after the other, so a batch gives the same bits as single images.

    Attributes:
        feeds_another: whether the next layer, apart from a ReLU, is also computed by NNPACK, whose
            inputs and outputs are channels first. All other layers are faster with channels last.
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
        # With channels last, pooling takes a tenth of the time.
        return found.contiguous(memory_format=torch.channels_last)

    def _suits(self) -> bool:
        """Whether NNPACK supports this layer, and is faster for large maps."""
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
    """Whether NNPACK can convolve images ``(B, C, h, w)``, and is faster."""
    return (
        not torch.is_grad_enabled()
        and input.device.type == "cpu"
        and input.dtype == torch.float32
        and input.shape[0] > 0
        and input.shape[2] * input.shape[3] >= LEAST_CELLS
        # This call also initialises NNPACK, which would otherwise fail.
        and torch.backends.nnpack.is_available()
    )


def by_nnpack(trunk: nn.Module) -> nn.Module:
    """The same trunk, with convolutions that NNPACK may compute."""
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
