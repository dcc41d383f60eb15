"""What fine-tuning trains: trunk, pyramid and head as one network.

The paper trains the fc layers and leaves the convolutions as ImageNet made them. The pyramid is
differentiable, so the later convolutions can be trained through it as well, as Fast R-CNN does.
"""

import torch
from torch import Tensor, nn

from detection.features.extractor import SPPExtractor
from detection.networks.backbone import Backbone
from detection.networks.head import Head
from detection.networks.truncated import TruncatedHead
from detection.training.finetuning.batches import View, WindowBatches

# Images that the moments of pooled features are taken over.
MOMENT_IMAGES = 64


class PyramidNetwork(nn.Module):
    """Trunk, pyramid and head in one, from a view to class logits.

    Args:
        extractor: SPP features; where convolutions are trained, those of its backbone and so in
            float32.
        head: fc6, fc7 and the (K+1)-way layer.
        layers: 'fc', or the first convolution to be trained, 'conv2' to 'conv5'.

    The head learns from pooled windows minus the buffer ``mean`` ``(D,)``, which is 0 until it is
    set. Features are all positive, and training would first learn what they have in common; with
    centred features it needs half the batches (docs/decisions.md).
    """

    mean: Tensor

    def __init__(
        self, extractor: SPPExtractor, head: Head | TruncatedHead, layers: str = "fc"
    ) -> None:
        super().__init__()
        self.extractor = extractor
        self.trunk = extractor.backbone.trunk
        self.head = head
        self.convolutions = convolutions_from(extractor.backbone, layers)
        self.trunk.requires_grad_(False)
        for layer in self.convolutions:
            layer.requires_grad_(True)
        self.register_buffer("mean", torch.zeros(extractor.length))

    def pooled(self, view: View) -> Tensor:
        """Pooled windows ``(B, D)`` of a view."""
        return self.extractor.features_at(view.image, view.windows, view.side)

    def forward(self, pooled: Tensor) -> Tensor:
        """Logits ``(B, K + 1)`` of pooled windows ``(B, D)``."""
        return self.head(pooled.float() - self.mean)

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained, by name."""
        return {n: value for n, value in self.named_parameters() if value.requires_grad}


def convolutions_from(backbone: Backbone, layers: str) -> list[nn.Conv2d]:
    """The trunk's convolutions from 'conv2' to 'conv5' on; none for 'fc'.

    Raises:
        ValueError: the network does not say where these begin.
    """
    if layers == "fc":
        return []
    if not backbone.stages:
        raise ValueError(
            f"{backbone.name} does not say which convolutions {layers} begins with; expected "
            "--finetune.train_from fc"
        )
    first = backbone.stages[int(layers.removeprefix("conv")) - 1]
    return [layer for layer in backbone.trunk.modules() if isinstance(layer, nn.Conv2d)][first:]


@torch.no_grad()
def input_moments(network: PyramidNetwork, batches: WindowBatches) -> tuple[Tensor, float]:
    """Mean ``(D,)`` of the first batches' pooled windows, and how far they spread about it.

    The spread is the mean over elements of the squared difference, for He initialisation.

    Raises:
        ValueError: all features are the same, as with a dead network.
    """
    steps = -(-MOMENT_IMAGES // batches.settings.images)
    views = (view for step in range(steps) for view in batches.draw(step))
    pooled = torch.cat([network.pooled(view).float() for view in views])
    mean = pooled.mean(dim=0, dtype=torch.float64).float()
    spread = (pooled - mean).square().mean(dtype=torch.float64).item()
    if not spread > 0:
        raise ValueError(
            "all pooled features are the same; expected a working network: check the weights"
        )
    return mean, spread
