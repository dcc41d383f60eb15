"""A network's input from an image, and its trunk in a given precision."""

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from detection.machine import Precision
from detection.networks.backbone import Backbone
from detection.networks.nnpack import by_nnpack
from detection.networks.receptive_field import TRACING


def prepare(backbone: Backbone, image: NDArray[np.uint8]) -> Tensor:
    """The backbone's input ``(1, 3, H, W)`` float32, on its device, from an image ``(H, W, 3)``.

    Raises:
        ValueError: the image is not uint8 with three channels.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"an image must be uint8 (H, W, 3), got {image.dtype} of shape {image.shape}"
        )
    # Copied, because torch accepts neither Pillow's read-only arrays nor mirrored views.
    return backbone.preprocess(torch.from_numpy(image.copy()))


def trunk_in(backbone: Backbone, precision: Precision) -> tuple[nn.Module, torch.dtype]:
    """The trunk with any reduction, channels last, and its number type.

    In float32 it is the backbone's own trunk, in bfloat16 a copy. A trunk with batch normalisation
    is always a copy, with the normalisation fused into the convolutions.
    """
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    trunk = backbone.trunk
    if any(isinstance(layer, nn.BatchNorm2d) for layer in trunk.modules()):
        with TRACING:
            trunk = fuse(trunk)
    elif precision != "float32":
        trunk = copy.deepcopy(trunk)
    if backbone.reduction is not None:
        trunk = nn.Sequential(trunk, copy.deepcopy(backbone.reduction))
    trunk = trunk.to(dtype).to(memory_format=torch.channels_last).eval()
    return by_nnpack(trunk), dtype
