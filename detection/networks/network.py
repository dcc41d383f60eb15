"""What a network states about itself; each has a file of its own with one of these."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from detection.networks.backbone import Preprocessing

# ImageNet's mean and deviation as torchvision's weights were trained with, on 0..255.
TORCHVISION_PREPROCESSING = Preprocessing(
    order="rgb",
    mean=(255 * 0.485, 255 * 0.456, 255 * 0.406),
    std=(255 * 0.229, 255 * 0.224, 255 * 0.225),
)


@dataclass(frozen=True)
class IndexFile:
    """Filters in the package of ``index_weights.py``.

    Attributes:
        file: path inside the package.
        tree: what holds ``Conv_0``, ``Conv_1``, ... in it.
        layers: where each of these belongs in torchvision's ``features``.
        digest: ``tensor_digest`` of the converted filters.
    """

    file: str
    tree: str
    layers: tuple[int, ...]
    digest: str


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
        index: ImageNet's filters on the package index.
        prefix: what the trunk's keys begin with in a file of weights.
    """

    trunk: Callable[[], nn.Module]
    preprocessing: Preprocessing = TORCHVISION_PREPROCESSING
    shrink: float = 6.5
    stages: tuple[int, ...] = (0, 1, 2, 3, 4)
    torchvision: str | None = None
    index: IndexFile | None = None
    prefix: str = "features."
