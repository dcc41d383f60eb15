"""Convnet*-5, the paper's variant of Krizhevsky's network (Table 1), up to conv5."""

from torch import nn

from detection.networks.network import Network
from detection.networks.normalization import WithinChannelNorm
from detection.networks.zoo.zf5 import PREPROCESSING


def convnet5_trunk() -> nn.Sequential:
    """Conv1 to conv5, each with its ReLU; the poolings follow conv2 and conv3, not conv1 and conv2.

    256 channels, stride 16, first centre at pixel 15. An image of 224 pixels gives 55, 27 and 13
    cells, as in the table; 180 pixels give 44, 21 and 10. The paper states neither the paddings nor
    the kind of normalisation. The paddings here give the table's sizes, and the normalisation is
    that of the released ZF-5.
    """
    return nn.Sequential(
        nn.Conv2d(3, 96, kernel_size=11, stride=4, padding=2),
        nn.ReLU(inplace=True),
        WithinChannelNorm(),
        nn.Conv2d(96, 256, kernel_size=5, padding=2),
        nn.ReLU(inplace=True),
        WithinChannelNorm(),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Conv2d(256, 384, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Conv2d(384, 384, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
    )


# Its weights are not published.
CONVNET5 = Network(convnet5_trunk, PREPROCESSING)
