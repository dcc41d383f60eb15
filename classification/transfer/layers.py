"""The layers of a fixed network as vectors of one length and L2 norm 1 (paper, section 3.2).

====================  ============================================================
conv4, conv5          the whole map; only for views of fixed size
pool5_6x6             conv5 max-pooled to 6x6, as in a network without a pyramid
pool5_pyramid         conv5 max-pooled by the pyramid {1, 2, 3, 6}, 50 bins
pool5_6x6_mean        conv5 mean-pooled to 6x6
pool5_pyramid_mean    conv5 mean-pooled by the pyramid
fc6, fc7              after their ReLU, from pool5_6x6, if the weights include them
====================  ============================================================

One pass through the convolutions computes all layers. conv4 is the input of conv5's first
convolution: in VGG-16 the output of the pooling before it, in EfficientNet-Lite0 the linear output
of a block.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from classification.transfer.view import View
from detection.features.network_input import prepare, trunk_in
from detection.machine import Precision
from detection.networks.backbone import Backbone
from detection.networks.pyramid import LEVELS
from detection.networks.spatial_pyramid import SpatialPyramidPooling

Layer = Literal[
    "conv4",
    "conv5",
    "pool5_6x6",
    "pool5_6x6_mean",
    "pool5_pyramid",
    "pool5_pyramid_mean",
    "fc6",
    "fc7",
]
LAYERS: tuple[Layer, ...] = get_args(Layer)
POOLINGS = {
    "pool5_6x6": SpatialPyramidPooling((6,)),
    "pool5_6x6_mean": SpatialPyramidPooling((6,), "mean"),
    "pool5_pyramid": SpatialPyramidPooling(LEVELS),
    "pool5_pyramid_mean": SpatialPyramidPooling(LEVELS, "mean"),
}
# conv5's first convolution in networks without stages.
CONV5 = {"resnet50_caffe": "layer4.0.conv1", "efficientnet_lite0": "_blocks.11._expand_conv"}


class LayerExtractor:
    """Computes vectors of an image's view.

    Args:
        backbone: the network; move it to its device first.
        classifier: ``fc6.weight`` and so on, from ``Weights.classifier``, or None.
        precision: of the convolutions; everything after them is float32.
    """

    def __init__(
        self,
        backbone: Backbone,
        classifier: Mapping[str, Tensor] | None = None,
        precision: Precision = "float32",
    ) -> None:
        self.backbone = backbone
        self.trunk, self._dtype = trunk_in(backbone, precision)
        device = backbone.device
        self.classifier = {name: each.to(device) for name, each in (classifier or {}).items()}
        self._conv4 = _module_of_conv5(backbone, self.trunk)

    @torch.inference_mode()
    def features(
        self, image: NDArray[np.uint8], view: View, layers: Sequence[str]
    ) -> dict[str, NDArray[np.float32]]:
        """Vectors ``(D,)`` of an RGB image ``(H, W, 3)``, by layer, with norm 1.

        A vector of zeros stays zero.
        """
        conv4, conv5 = self._maps(view.of(prepare(self.backbone, image)))
        made = {layer: self._layer(layer, conv4, conv5) for layer in layers}
        return {
            layer: F.normalize(vector.flatten(), dim=0).cpu().numpy()
            for layer, vector in made.items()
        }

    def _maps(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """conv4 and conv5 ``(1, C, h, w)`` float32; if conv4 is unknown, conv5 twice."""
        seen: list[Tensor] = []
        pixels = pixels.to(self._dtype).contiguous(memory_format=torch.channels_last)
        hook = None
        if self._conv4 is not None:
            hook = self._conv4.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        try:
            conv5 = self.trunk(pixels)
        finally:
            if hook is not None:
                hook.remove()
        return (seen[0] if seen else conv5).float(), conv5.float()

    def _layer(self, layer: str, conv4: Tensor, conv5: Tensor) -> Tensor:
        if layer in ("conv4", "conv5"):
            return conv4 if layer == "conv4" else conv5
        if layer in POOLINGS:
            return POOLINGS[layer](conv5)
        found = self._linear("fc6", POOLINGS["pool5_6x6"](conv5))
        return found if layer == "fc6" else self._linear("fc7", found)

    def _linear(self, name: str, values: Tensor) -> Tensor:
        weight, bias = self.classifier[f"{name}.weight"], self.classifier[f"{name}.bias"]
        return F.linear(values, weight, bias).relu()

    def why_not(self, layer: str, view: View) -> str | None:
        """Why a layer has no vector for a view; None if it has one."""
        name = self.backbone.name
        if layer in ("conv4", "conv5") and view.kind == "full":
            return f"{layer} of full images has no fixed length"
        if layer == "conv4" and self._conv4 is None:
            return f"{name} does not state where conv5 begins"
        if layer in ("fc6", "fc7") and not self.classifier:
            return f"the weights of {name} hold convolutions only"
        return None

    def check(self, view: View) -> None:
        """Check that an image of the view's size has a map.

        Raises:
            ValueError: the view's size is too small for the network.
        """
        try:
            with torch.inference_mode():
                self._maps(torch.zeros(1, 3, view.size, view.size, device=self.backbone.device))
        except RuntimeError as error:
            raise ValueError(
                f"{self.backbone.name} has no map of a view of {view.size} pixels; use a larger "
                "view, such as 224"
            ) from error


def _module_of_conv5(backbone: Backbone, trunk: nn.Module) -> nn.Module | None:
    """The first convolution of conv5; None if it is unknown."""
    if backbone.name in CONV5:
        return trunk.get_submodule(CONV5[backbone.name])
    if len(backbone.stages) < 5:
        return None
    convolutions = [layer for layer in trunk.modules() if isinstance(layer, nn.Conv2d)]
    return convolutions[backbone.stages[4]]
