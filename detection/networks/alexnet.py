"""AlexNet as torchvision defines it, up to conv5: the network whose weights can be had."""

from torch import nn
from torchvision.models import alexnet

from detection.networks.backbone import Preprocessing

# ImageNet's mean and deviation as torchvision's weights were trained with, on 0..255.
PREPROCESSING = Preprocessing(
    order="rgb",
    mean=(255 * 0.485, 255 * 0.456, 255 * 0.406),
    std=(255 * 0.229, 255 * 0.224, 255 * 0.225),
)


def alexnet_trunk() -> nn.Sequential:
    """Conv1 to conv5, each with its ReLU, and the two poolings between; no pooling after conv5.

    256 channels, stride 16, first centre at pixel 15. A 224-pixel picture gives 13x13 cells. The
    keys of its state are torchvision's without ``features.``: 0, 3, 6, 8 and 10.
    """
    return alexnet(weights=None).features[:12]
