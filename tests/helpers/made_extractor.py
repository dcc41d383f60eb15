"""An image, the scales of its maps, and a tiny trunk that replaces a large one."""

import numpy as np
import torch

from detection.networks.backbone import Backbone, Preprocessing

SCALES = (120, 160, 240)
SIZE = (90, 130)


def made_image():
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


def tiny_backbone(seed=0):
    """Return five small convolutions with a stride of four pixels."""
    layers = []
    for place, channels in enumerate((3, 4, 4, 4, 4)):
        layers.append(torch.nn.Conv2d(channels, 4, 3, stride=2 if place < 2 else 1, padding=1))
        layers.append(torch.nn.ReLU(inplace=True))
    trunk = torch.nn.Sequential(*layers)
    with torch.no_grad():
        for number, parameter in enumerate(trunk.parameters()):
            generator = torch.Generator().manual_seed(100 * seed + number)
            parameter.normal_(0, 0.3, generator=generator)
    return Backbone("tiny", trunk, Preprocessing("rgb", (128.0,) * 3, (64.0,) * 3))
