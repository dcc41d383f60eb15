"""A network by name, with its weights."""

from pathlib import Path
from typing import Literal

import torch

from detection.networks import alexnet, zf5
from detection.networks.backbone import Backbone
from detection.networks.weights import TRUNKS, Weights, load_weights

PREPROCESSING = {"alexnet": alexnet.PREPROCESSING, "zf5": zf5.PREPROCESSING}


def build_backbone(
    name: Literal["alexnet", "zf5"],
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
        name, trunk, PREPROCESSING[name], source=found.source, digest=found.digest
    ).eval()
