"""VGG-16 as torchvision defines it, up to conv5_3."""

from torch import nn
from torchvision.models import vgg16


def vgg16_trunk() -> nn.Sequential:
    """Thirteen convolutions, each with its ReLU, and the four poolings between; none after conv5_3.

    512 channels, stride 16, first centre at pixel 7.5. A 224-pixel picture gives 14x14 cells. The
    keys of its state are torchvision's without ``features.``.
    """
    return vgg16(weights=None).features[:30]
