"""fc6 and fc7 of low rank in what they respond to real windows: approximate, several times faster.

Responses of a layer to windows lie near a plane of few dimensions. With the plane's directions U
``(out, r)`` and the mean response m, ``W x + b`` is nearly ``U (U'W x + U'(b - m)) + m``: two thin
layers, ``r (in + out)`` multiplications a window instead of ``in * out`` (Zhang, Zou, He and Sun,
"Accelerating Very Deep Convolutional Networks", 2015, without their account of the ReLU).
Truncating the weights alone (Fast R-CNN, section 3.1) needs no windows, and errs twice as much
(docs/decisions.md).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from detection.networks.head import Head
from detection.networks.linear import Linear

# Directions kept of each layer's responses: the highest rank that can be asked for.
MOST = 512
LAYERS = ("fc6", "fc7")


@dataclass(frozen=True)
class Responses:
    """Where a layer's responses, before the ReLU, lie.

    Attributes:
        mean: ``(out,)``.
        directions: ``(out, r)`` orthonormal, the ones of most variance first.
    """

    mean: Tensor
    directions: Tensor


class ResponseMoments:
    """Gathers the responses of a head's fc6 and fc7 to many windows.

    Args:
        head: a trained one.
    """

    def __init__(self, head: Head) -> None:
        self.head = head
        self.count = 0
        sizes = {name: getattr(head, name).out_features for name in LAYERS}
        # In float64: a variance is the small difference of two large sums.
        double = torch.float64
        self._sums = {name: torch.zeros(size, dtype=double) for name, size in sizes.items()}
        self._squares = {
            name: torch.zeros(size, size, dtype=double) for name, size in sizes.items()
        }

    @torch.inference_mode()
    def add(self, pooled: Tensor) -> None:
        """Windows ``(P, D)`` float32."""
        self.count += len(pooled)
        fc6 = self.head.fc6_response(pooled.to(self.head.fc6.weight.device))
        for name, values in (("fc6", fc6), ("fc7", self.head.fc7(torch.relu(fc6)))):
            self._sums[name] += values.sum(dim=0, dtype=torch.float64).cpu()
            self._squares[name] += (values.T @ values).cpu()

    def responses(self) -> dict[str, Responses]:
        """Of each layer, from at least one window."""
        found = {}
        for name in LAYERS:
            mean = self._sums[name] / self.count
            covariance = self._squares[name] / self.count - torch.outer(mean, mean)
            directions = torch.linalg.eigh(covariance).eigenvectors.flip(1)
            found[name] = Responses(mean.float(), directions[:, :MOST].float().contiguous())
        return found


class TruncatedHead(nn.Module):
    """A trained head whose fc6 and fc7 are products of two thin layers; for inference.

    Args:
        head: the head; it is left as it is.
        responses: of its fc6 and fc7.
        rank: of fc6, and half of fc7's, where there are so many directions: what fc7 loses costs
            ten times as much mAP (docs/decisions.md). A layer with as few outputs is taken whole.

    Raises:
        ValueError: a higher rank than there are directions.
    """

    def __init__(self, head: Head, responses: Mapping[str, Responses], rank: int) -> None:
        super().__init__()
        self.fc6 = thin(head.fc6.weight * head.input_scale, head.fc6.bias, responses["fc6"], rank)
        twice = max(rank, min(2 * rank, responses["fc7"].directions.shape[1]))
        self.fc7 = thin(head.fc7.weight, head.fc7.bias, responses["fc7"], twice)
        self.fc8 = head.fc8

    def fc6_of(self, pooled: Tensor) -> Tensor:
        """fc6 ``(P, hidden)``, after ReLU, of pooled vectors ``(P, in_features)``."""
        return torch.relu(self.fc6(pooled.to(next(self.fc6.parameters()).dtype)))

    def fc7_of(self, fc6: Tensor) -> Tensor:
        """fc7 ``(P, hidden)``, after ReLU, of fc6."""
        return torch.relu(self.fc7(fc6))


@torch.no_grad()
def thin(weight: Tensor, bias: Tensor, responses: Responses, rank: int) -> nn.Sequential:
    """Two thin layers for ``W x + b``, or the layer itself where they would save nothing.

    Raises:
        ValueError: a higher rank than there are directions.
    """
    if rank >= len(weight):
        return nn.Sequential(layer_of(weight, bias))
    if rank > responses.directions.shape[1]:
        raise ValueError(
            f"this detector's fc layers can be truncated to a rank of "
            f"{responses.directions.shape[1]} at most, got {rank}"
        )
    mean = responses.mean.to(weight.device)
    directions = responses.directions[:, :rank].to(weight.device)
    return nn.Sequential(
        layer_of(directions.T @ weight, directions.T @ (bias - mean)), layer_of(directions, mean)
    )


def layer_of(weight: Tensor, bias: Tensor) -> Linear:
    """A layer of given weights ``(out, in)``, which it keeps a copy of."""
    layer = Linear(weight.shape[1], weight.shape[0], device=weight.device)
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)
    return layer


def pack(responses: Mapping[str, Responses]) -> dict[str, Tensor]:
    """As named tensors, for a file."""
    return {
        f"{name}.{part}": getattr(found, part)
        for name, found in responses.items()
        for part in ("mean", "directions")
    }


def unpack(tensors: Mapping[str, Tensor]) -> dict[str, Responses]:
    """What ``pack`` made tensors of; nothing of nothing."""
    names: Iterable[str] = LAYERS if tensors else ()
    return {
        name: Responses(tensors[f"{name}.mean"], tensors[f"{name}.directions"]) for name in names
    }
