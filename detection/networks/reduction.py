"""Reduces the channels of maps by PCA over their cells, so that pooled windows stay short.

ResNet-50's conv5 has 2,048 channels, which makes 102,400 numbers per window. Of these, 128
directions are kept, in which the cells of the training images vary most. Each direction is split
into its positive and its negative part, by a 1x1 convolution and a ReLU: 256 channels, and the
paper's 12,800 numbers. Without the split, pooling, which takes maxima, would lose the negative
values (Shang et al. 2016; docs/decisions.md).
"""

import torch
from torch import Tensor

from detection.networks.backbone import Reduction, reduction_of


class CellMoments:
    """Sums over the cells of maps, from which principal directions are computed.

    Args:
        channels: of the maps.
    """

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.total = torch.zeros(channels, dtype=torch.float64)
        self.products = torch.zeros(channels, channels, dtype=torch.float64)

    def add(self, map: Tensor) -> None:
        """Add the cells of a map ``(C, h, w)``."""
        cells = map.detach().flatten(1).float().cpu()
        self.count += cells.shape[1]
        self.total += cells.sum(dim=1, dtype=torch.float64)
        self.products += (cells @ cells.t()).double()

    def reduction(self, channels: int) -> tuple[Reduction, float]:
        """The reduction to the first principal directions, and their share of the variance.

        Args:
            channels: even. The mean cell is subtracted; the first half of the channels are then the
                positive parts along the first ``channels / 2`` directions, the second half the
                negative parts. The sign of a direction is arbitrary, so its element of the largest
                magnitude is made positive.

        Returns:
            The reduction, and the share of the variance in its directions.

        Raises:
            ValueError: no cells, an odd number of channels, or more channels than the maps have.
        """
        if self.count == 0 or channels % 2 or channels > len(self.total):
            raise ValueError(
                f"cannot make {channels} channels, two for each direction, of {len(self.total)}, "
                f"from {self.count} cells"
            )
        kept = channels // 2
        mean = self.total / self.count
        covariance = self.products / self.count - torch.outer(mean, mean)
        variances, directions = torch.linalg.eigh(covariance)
        chosen = directions[:, -kept:].flip(1)
        largest = chosen.gather(0, chosen.abs().argmax(dim=0, keepdim=True))
        chosen = (chosen * largest.sign()).t()
        chosen = torch.cat([chosen, -chosen])
        bias = -(chosen @ mean)
        share = variances[-kept:].sum() / variances.sum()
        return reduction_of(chosen[:, :, None, None].float(), bias.float()), share.item()
