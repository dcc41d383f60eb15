"""The learning curve of fine-tuning: loss and errors on windows of images held back."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from detection.training.finetuning.batches import View, WindowBatches
from detection.training.finetuning.pyramid_network import PyramidNetwork

BATCHES = 16


class LearningCurve:
    """Loss, error and error on objects of the same held-back batches each time.

    Unless convolutions are trained, the batches are pooled once and kept: 100 MB.

    Args:
        network: that learns.
        held_back: draws the batches; at most BATCHES, and no more than it has images.
        autocast: whether products are of bfloat16.
    """

    def __init__(self, network: PyramidNetwork, held_back: WindowBatches, autocast: bool) -> None:
        self.network = network
        self.held_back = held_back
        self.autocast = autocast
        self._kept: list[tuple[Tensor, Tensor]] | None = None

    @torch.no_grad()
    def point(self) -> dict[str, float]:
        """What the network makes of the batches now; its head is left in evaluation mode."""
        self.network.head.eval()
        found = [
            (logits_of(self.network, pooled, self.autocast).cpu(), labels)
            for pooled, labels in self._batches()
        ]
        logits, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
        miss = logits.argmax(dim=1) != labels
        objects = labels < logits.shape[1] - 1
        return {
            "held_back_loss": cross_entropy(logits, labels).item(),
            "held_back_error": miss.float().mean().item(),
            "held_back_object_error": miss[objects].float().mean().item(),
        }

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Pooled windows ``(B, D)`` and labels ``(B,)`` of each batch."""
        if self._kept is not None:
            yield from self._kept
            return
        kept = []
        for step in range(min(BATCHES, len(self.held_back.records))):
            batch = pooled_batch(self.network, self.held_back.draw(step), self.autocast)
            if not self.network.convolutions:
                kept.append(batch)
            yield batch
        self._kept = kept or None


def pooled_batch(
    network: PyramidNetwork, views: Sequence[View], autocast: bool
) -> tuple[Tensor, Tensor]:
    """Pooled windows ``(B, D)`` of views, on the network's device, and their labels ``(B,)``."""
    device = network.head.fc8.weight.device
    with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
        pooled = torch.cat([network.pooled(view) for view in views])
    return pooled, torch.from_numpy(np.concatenate([view.labels for view in views]))


def logits_of(network: PyramidNetwork, pooled: Tensor, autocast: bool) -> Tensor:
    """Logits ``(B, K + 1)`` float32 of pooled windows ``(B, D)``."""
    with torch.autocast(pooled.device.type, torch.bfloat16, enabled=autocast):
        return network(pooled).float()
