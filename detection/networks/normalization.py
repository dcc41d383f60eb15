"""Local response normalisation within channels, used in ZF-5."""

import torch.nn.functional as F
from torch import Tensor, nn


class WithinChannelNorm(nn.Module):
    """Divides each value by a power of the mean square around it in the same channel.

    ``x / (1 + alpha * mean(x^2))^beta``, with the mean over ``size`` x ``size`` cells around x.
    Cells outside the map count as zeros, and the divisor stays ``size^2`` at the border. This is
    Caffe's WITHIN_CHANNEL; the defaults are the parameters of the released ZF-5.

    ``torch.nn.LocalResponseNorm`` is a different operation: it works across channels.
    """

    def __init__(self, size: int = 3, alpha: float = 5e-5, beta: float = 0.75) -> None:
        super().__init__()
        self.size = size
        self.alpha = alpha
        self.beta = beta

    def forward(self, x: Tensor) -> Tensor:
        """Normalised maps of the same shape ``(B, C, H, W)``."""
        mean_square = F.avg_pool2d(x * x, self.size, stride=1, padding=self.size // 2)
        # In place: allocating memory takes longer than the arithmetic.
        return mean_square.mul_(self.alpha).add_(1).pow_(-self.beta).mul_(x)

    def extra_repr(self) -> str:
        """The parameters, for printing."""
        return f"size={self.size}, alpha={self.alpha}, beta={self.beta}"
