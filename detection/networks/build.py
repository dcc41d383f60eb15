"""A network by name, with its weights."""

from pathlib import Path
from typing import Literal

import torch

from detection.networks import alexnet, zf5
from detection.networks.backbone import Backbone
from detection.networks.weights import TRUNKS, Weights, load_weights

PREPROCESSING = {
    "alexnet": alexnet.PREPROCESSING,
    "vgg16": alexnet.PREPROCESSING,
    "zf5": zf5.PREPROCESSING,
}
# shrink and standard_cells, where they are not AlexNet's and ZF-5's; VGG-16's as in LocNet.
MAPPING = {"vgg16": (6.0, 14)}


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
    shrink, standard_cells = MAPPING.get(name, (6.5, 13))
    return Backbone(
        name,
        trunk,
        PREPROCESSING[name],
        source=found.source,
        digest=found.digest,
        shrink=shrink,
        standard_cells=standard_cells,
    ).eval()
