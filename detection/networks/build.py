"""A network by name, with its weights."""

from detection.networks.backbone import Backbone
from detection.networks.weight_sources import load_weights
from detection.networks.weights import Weights
from detection.networks.zoo.catalogue import network_named


def build_backbone(name: str, weights: str | Weights = "auto") -> Backbone:
    """The convolutional part of a network, in evaluation mode, on the CPU, channels last.

    Args:
        name: of the network.
        weights: a source for ``load_weights``, or weights that it returned (whose ``classifier``
            may initialise the head).

    Raises:
        ValueError, FileNotFoundError, RuntimeError: see ``load_weights``.
    """
    found = load_weights(name, weights) if isinstance(weights, str) else weights
    network = network_named(name)
    trunk = network.empty_trunk()
    backbone = Backbone(
        name,
        trunk,
        network.preprocessing,
        shrink=network.shrink,
        stages=network.stages,
        source=found.source,
        digest=found.digest,
    )
    backbone.load_tensors(found.state)
    return backbone.eval()
