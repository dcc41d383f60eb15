"""fc6 and fc7 by truncated singular value decomposition (Fast R-CNN, section 3.1): approximate."""

import torch
from torch import Tensor, nn

from detection.networks.head import Head

# Of the randomised decomposition: more directions than asked for, and rounds, make it exact enough.
OVERSAMPLING, ROUNDS = 32, 4


class TruncatedHead(nn.Module):
    """A trained head whose fc6 and fc7 are products of two thin layers; for inference.

    A layer of weights W ``(out, in)`` becomes ``U (out, r)`` times ``V (r, in)``, the best of rank
    r: ``r (in + out)`` multiplications a window instead of ``in * out``.

    Args:
        head: the head; it is left as it is.
        rank: r, of both layers; a layer whose sides are not above it is taken whole.
    """

    def __init__(self, head: Head, rank: int) -> None:
        super().__init__()
        self.fc6 = factorised(head.fc6, rank, head.input_scale)
        self.fc7 = factorised(head.fc7, rank, torch.ones(()))
        self.fc8 = head.fc8

    def fc6_of(self, pooled: Tensor) -> Tensor:
        """fc6 ``(P, hidden)``, after ReLU, of pooled vectors ``(P, in_features)``."""
        return torch.relu(self.fc6(pooled.to(next(self.fc6.parameters()).dtype)))

    def fc7_of(self, fc6: Tensor) -> Tensor:
        """fc7 ``(P, hidden)``, after ReLU, of fc6."""
        return torch.relu(self.fc7(fc6))


@torch.no_grad()
def factorised(layer: nn.Linear, rank: int, scale: Tensor) -> nn.Sequential:
    """Thin layers that stand for ``scale * W x + b``; one layer where ``rank`` would save nothing.

    The same every time: the decomposition's random start has a seed of its own.
    """
    weight = layer.weight * scale.to(layer.weight.device)
    if rank >= min(weight.shape):
        parts = [weight]
    else:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            most = min(rank + OVERSAMPLING, *weight.shape)
            u, s, v = torch.svd_lowrank(weight, q=most, niter=ROUNDS)
        root = s[:rank].sqrt()
        parts = [(v[:, :rank] * root).T, u[:, :rank] * root]
    layers = [nn.Linear(part.shape[1], part.shape[0], bias=False) for part in parts]
    layers[-1] = nn.Linear(parts[-1].shape[1], parts[-1].shape[0])
    layers[-1].bias.copy_(layer.bias)
    for made, part in zip(layers, parts, strict=True):
        made.weight.copy_(part)
    return nn.Sequential(*layers).to(weight.device)
