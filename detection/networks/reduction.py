"""Maps of many channels brought to fewer by PCA over their cells, so that windows stay short.

ResNet-50's conv5 has 2,048 channels, 102,400 numbers a window; the 128 directions in which cells
of the training images vary most, each as its positive and its negative part, make it the paper's
12,800. The parts are a 1x1 convolution and a ReLU: pooling takes maxima, and of a direction left
whole it would never see the negative end (Shang et al. 2016; docs/decisions.md).
"""

import torch
from torch import Tensor

from detection.networks.backbone import Reduction, reduction_of


class CellMoments:
    """Sums over the cells of maps, from which their principal directions follow.

    Args:
        channels: of the maps.
    """

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.total = torch.zeros(channels, dtype=torch.float64)
        self.products = torch.zeros(channels, channels, dtype=torch.float64)

    def add(self, map: Tensor) -> None:
        """Take the cells of a map ``(C, h, w)`` in."""
        cells = map.detach().flatten(1).float().cpu()
        self.count += cells.shape[1]
        self.total += cells.sum(dim=1, dtype=torch.float64)
        self.products += (cells @ cells.t()).double()

    def reduction(self, channels: int) -> tuple[Reduction, float]:
        """The parts along the first principal directions and against them, and their share.

        Args:
            channels: even; the first half go along the first ``channels / 2`` directions, the
                others against them, of cells less their mean. A direction's largest number is
                positive, as its sign is free.

        Returns:
            The reduction, and the share of the variance that its directions hold.

        Raises:
            ValueError: no cells, an odd number of channels, or more than the maps have.
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
