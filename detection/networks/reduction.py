"""Maps of many channels brought to fewer by PCA over their cells, so that windows stay short.

ResNet-50's conv4 has 1,024 channels, 51,200 numbers a window; the 256 directions in which cells
of the training pictures vary most make it the paper's 12,800. The projection is a 1x1 convolution.
"""

import torch
from torch import Tensor, nn

from detection.networks.backbone import reduction_of


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

    def reduction(self, channels: int) -> tuple[nn.Conv2d, float]:
        """The convolution to the first principal directions, and their share of the variance.

        What it gives has mean 0 over the cells, so about half of it is negative. A direction's
        largest number is positive, as its sign is free.

        Raises:
            ValueError: no cells, or more channels than the maps have.
        """
        if self.count == 0 or channels > len(self.total):
            raise ValueError(
                f"cannot make {channels} channels of {len(self.total)}, from {self.count} cells"
            )
        mean = self.total / self.count
        covariance = self.products / self.count - torch.outer(mean, mean)
        variances, directions = torch.linalg.eigh(covariance)
        chosen = directions[:, -channels:].flip(1)
        largest = chosen.gather(0, chosen.abs().argmax(dim=0, keepdim=True))
        chosen = (chosen * largest.sign()).t()
        bias = -(chosen @ mean)
        share = variances[-channels:].sum() / variances.sum()
        return reduction_of(chosen[:, :, None, None].float(), bias.float()), share.item()
