"""A network by name, with its weights."""

from pathlib import Path
from typing import Any, Literal

import torch

from detection.networks import alexnet, zf5
from detection.networks.backbone import Backbone
from detection.networks.weights import TRUNKS, Weights, load_weights

PREPROCESSING = {
    "alexnet": alexnet.PREPROCESSING,
    "vgg16": alexnet.PREPROCESSING,
    "zf5": zf5.PREPROCESSING,
}
# What Backbone's defaults, which are AlexNet's and ZF-5's, are not right for: VGG-16's mapping is
# LocNet's, and its conv1 to conv5 are of two or three convolutions each.
OTHERWISE: dict[str, dict[str, Any]] = {
    "vgg16": {"shrink": 6.0, "standard_cells": 14, "stages": (0, 2, 4, 7, 10)}
}


def build_backbone(
    name: Literal["alexnet", "vgg16", "zf5"],
    weights: str | Weights = "auto",
    folder: Path = Path("data/weights"),
) -> Backbone:
    """The convolutional part of a network, in evaluation mode, on the CPU, channels last.

    Args:
        name: of the network.
        weights: a source as ``load_weights`` takes it, or weights it has returned (whose
            ``classifier`` may start the head).
        folder: where weights are looked for and kept.

    Raises:
        ValueError, FileNotFoundError, RuntimeError: as ``load_weights``.
    """
    found = load_weights(name, weights, folder) if isinstance(weights, str) else weights
    # Made without memory, as every weight is about to be replaced.
    with torch.device("meta"):
        trunk = TRUNKS[name]()
    trunk.load_state_dict(found.state, assign=True)
    return Backbone(
        name,
        trunk,
        PREPROCESSING[name],
        source=found.source,
        digest=found.digest,
        **OTHERWISE.get(name, {}),
    ).eval()
