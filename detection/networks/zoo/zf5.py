"""ZF-5, the network of the paper's detection experiments (Table 1), up to conv5."""

from torch import nn

from detection.networks.backbone import Preprocessing
from detection.networks.network import Network
from detection.networks.normalization import WithinChannelNorm

# The released VOC 2007 code subtracts the constant 128 from BGR pixels of 0..255.
PREPROCESSING = Preprocessing(order="bgr", mean=(128.0, 128.0, 128.0), std=(1.0, 1.0, 1.0))


def zf5_trunk() -> nn.Sequential:
    """Conv1 to conv5, each with its ReLU, with the released paddings and Caffe's ceil pooling.

    256 channels, stride 16, first centre at pixel 20. An image of 224 pixels gives 110, 55, 26 and
    13 cells; 180 pixels give 88, 44, 20 and 10.
    """
    return nn.Sequential(
        nn.Conv2d(3, 96, kernel_size=7, stride=2, padding=1),
        nn.ReLU(inplace=True),
        WithinChannelNorm(),
        nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True),
        nn.Conv2d(96, 256, kernel_size=5, stride=2),
        nn.ReLU(inplace=True),
        WithinChannelNorm(),
        nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True),
        nn.Conv2d(256, 384, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 384, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
    )


# Its weights are not published.
ZF5 = Network(zf5_trunk, PREPROCESSING)
