"""Any of torchvision's classification networks up to a layer, such as ``resnet50/layer3``."""

from functools import lru_cache

import torchvision
from torch import fx, nn
from torchvision.models import get_model, get_model_weights, list_models
from torchvision.models.feature_extraction import create_feature_extractor

from detection.networks.backbone import Preprocessing
from detection.networks.network import Network


@lru_cache
def torchvision_layer(model: str, layer: str) -> Network:
    """A model up to a layer as a network, with torchvision's default weights.

    Args:
        model: a convolutional model of ``torchvision.models.list_models()``.
        layer: whose output is pooled, by its name in ``torchvision.models.feature_extraction``:
            ``layer3``, ``features.16``.

    Raises:
        ValueError: no such model.
    """
    if model not in list_models(module=torchvision.models):
        raise ValueError(f"torchvision has no classification network {model!r}")
    weights = get_model_weights(model).DEFAULT
    seen = weights.transforms()
    red, green, blue = (255 * value for value in seen.mean)
    deviations = (255 * seen.std[0], 255 * seen.std[1], 255 * seen.std[2])

    def trunk() -> nn.Module:
        """The model up to the layer."""
        return traced(get_model(model, weights=None), layer)

    return Network(
        trunk,
        Preprocessing("rgb", (red, green, blue), deviations),
        stages=(),
        torchvision=weights.url,
        prefix="",
    )


def traced(model: nn.Module, layer: str) -> fx.GraphModule:
    """A model up to a layer, in evaluation mode; the keys of its state dict are the model's.

    Raises:
        ValueError: no such layer.
    """
    found = create_feature_extractor(model.eval(), {layer: "map"}).eval()
    for node in found.graph.nodes:
        if node.op == "output":
            node.args = (node.args[0]["map"],)
    return fx.GraphModule(found, found.graph)
