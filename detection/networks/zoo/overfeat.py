"""Overfeat-5 and Overfeat-7, the paper's variants of OverFeat (Table 1), up to conv5 and conv7."""

from functools import partial

from torch import nn

from detection.networks.network import Network
from detection.networks.normalization import WithinChannelNorm
from detection.networks.zoo.zf5 import PREPROCESSING


def overfeat_trunk(convolutions: int) -> nn.Sequential:
    """Conv1 to conv5 or conv7, each with its ReLU.

    512 channels, stride 12, first centre at pixel 7. An image of 224 pixels gives 36 and 18 cells,
    as in the table; 180 pixels give 29 and 14. The paper states neither the paddings nor the kind
    of normalisation. The paddings here give the table's sizes, and the normalisation is that of the
    released ZF-5. The released code has its first centre at pixel 14: it uses other paddings, which
    it does not state.

    Args:
        convolutions: 5 or 7.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(3, 96, kernel_size=7, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(kernel_size=3, stride=3),
        WithinChannelNorm(),
        nn.Conv2d(96, 256, kernel_size=5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(kernel_size=2, stride=2),
    ]
    for channels in (256, *[512] * (convolutions - 3)):
        layers += [nn.Conv2d(channels, 512, kernel_size=3, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


# Their weights are not published.
OVERFEAT5 = Network(partial(overfeat_trunk, 5), PREPROCESSING)
OVERFEAT7 = Network(partial(overfeat_trunk, 7), PREPROCESSING)
