"""What one step of descent is given and computes, in one process or parted among several."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from detection.training.finetuning.pyramid_network import PyramidNetwork


class Batch(NamedTuple):
    """What a step learns from.

    Attributes:
        pooled: ``(M, D)`` windows, with their graph where convolutions are trained: all B of the
            batch, or this process's.
        labels: ``(M,)`` classes, K for background.
        places: ``(M,)`` where in the batch they stand.
        size: B.
        targets: ``(M, 4)`` of the box layer; None where there is none.
    """

    pooled: Tensor
    labels: Tensor
    places: Tensor
    size: int
    targets: Tensor | None = None


class Step(nn.Module):
    """What a step of descent computes, which DistributedDataParallel stands around.

    Args:
        network: of which pooled windows go through the head.
    """

    def __init__(self, network: PyramidNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits ``(M, K + 1)`` and moves ``(M, 4K)`` of pooled windows ``(M, D)``."""
        fc7 = self.network.fc7(pooled)
        boxes = self.network.boxes
        return self.network.head.fc8(fc7), None if boxes is None else boxes(fc7)


class DropoutOfBatch(nn.Module):
    """Dropout of some rows of a batch as of the whole, so that parted it learns the same.

    Attributes:
        places: of the rows given next.
        size: of the whole batch.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.places = torch.empty(0, dtype=torch.int64)
        self.size = 0

    def forward(self, rows: Tensor) -> Tensor:
        """The rows ``(M, D)`` with a share of their numbers dropped, in training."""
        if not self.training or not self.share:
            return rows
        whole = torch.ones(self.size, rows.shape[1], dtype=rows.dtype, device=rows.device)
        return rows * dropout(whole, self.share)[self.places.to(rows.device)]
