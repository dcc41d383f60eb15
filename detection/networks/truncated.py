"""Low-rank fc6 and fc7, fitted to their responses to real windows: approximate, but much faster.

A layer's responses to windows lie near a subspace of few dimensions. With its directions U
``(out, r)`` and the mean response m, ``W x + b`` is nearly ``U (U'W x + U'(b - m)) + m``. These are
two thin layers, with ``r (in + out)`` multiplications per window instead of ``in * out`` (Zhang,
Zou, He and Sun, "Accelerating Very Deep Convolutional Networks", 2015, but without their treatment
of the ReLU). Truncating the weights alone (Fast R-CNN, section 3.1) needs no windows, but its error
is twice as large (docs/decisions.md).
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from detection.networks.head import Head
from detection.networks.linear import Linear

# Directions kept of each layer's responses: the highest possible rank.
MOST = 512
LAYERS = ("fc6", "fc7")


@dataclass(frozen=True)
class Responses:
    """The subspace of a layer's responses before the ReLU.

    Attributes:
        mean: ``(out,)``.
        directions: ``(out, r)`` orthonormal, by decreasing variance.
    """

    mean: Tensor
    directions: Tensor


class ResponseMoments:
    """Sums over the responses of a head's fc6 and fc7 to many windows.

    Args:
        head: a trained head.
    """

    def __init__(self, head: Head) -> None:
        self.head = head
        self.count = 0
        sizes = {name: getattr(head, name).out_features for name in LAYERS}
        # In float64, because a variance is a small difference of two large sums.
        double = torch.float64
        self._sums = {name: torch.zeros(size, dtype=double) for name, size in sizes.items()}
        self._squares = {
            name: torch.zeros(size, size, dtype=double) for name, size in sizes.items()
        }

    @torch.inference_mode()
    def add(self, pooled: Tensor) -> None:
        """Add the responses to pooled windows ``(P, D)`` float32."""
        self.count += len(pooled)
        fc6 = self.head.fc6_response(pooled.to(self.head.fc6.weight.device))
        for name, values in (("fc6", fc6), ("fc7", self.head.fc7(torch.relu(fc6)))):
            self._sums[name] += values.sum(dim=0, dtype=torch.float64).cpu()
            self._squares[name] += (values.T @ values).cpu()

    def responses(self) -> dict[str, Responses]:
        """The responses of each layer; at least one window must have been added."""
        found = {}
        for name in LAYERS:
            mean = self._sums[name] / self.count
            covariance = self._squares[name] / self.count - torch.outer(mean, mean)
            directions = torch.linalg.eigh(covariance).eigenvectors.flip(1)
            found[name] = Responses(mean.float(), directions[:, :MOST].float().contiguous())
        return found


class TruncatedHead(nn.Module):
    """A trained head whose fc6 and fc7 are pairs of thin layers; it can be fine-tuned further.

    Args:
        fc6: one layer, or two thin ones.
        fc7: likewise.
        fc8: the (K+1)-way layer.

    Attributes:
        dropout: of fc6's and fc7's units in training, as in ``Head``.
    """

    def __init__(self, fc6: nn.Sequential, fc7: nn.Sequential, fc8: nn.Linear) -> None:
        super().__init__()
        self.fc6, self.fc7, self.fc8 = fc6, fc7, fc8
        self.dropout: nn.Module = nn.Dropout(0.0)

    @classmethod
    def of(cls, head: Head, responses: Mapping[str, Responses], rank: int) -> "TruncatedHead":
        """A truncated copy of a head.

        Args:
            head: not changed.
            responses: of its fc6 and fc7.
            rank: of fc6. fc7 has twice this rank, or all directions if there are fewer, because
                its truncation costs ten times as much mAP (docs/decisions.md). A layer with no
                more outputs than its rank is not truncated.

        Raises:
            ValueError: the rank exceeds the number of directions.
        """
        scaled = head.fc6.weight * head.input_scale
        twice = max(rank, min(2 * rank, responses["fc7"].directions.shape[1]))
        return cls(
            thin(scaled, head.fc6.bias, responses["fc6"], rank),
            thin(head.fc7.weight, head.fc7.bias, responses["fc7"], twice),
            head.fc8,
        )

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "TruncatedHead":
        """A truncated head from a ``state_dict``, whose tensors it copies.

        Raises:
            KeyError: a layer is missing.
            RuntimeError: the layers do not fit together.
        """
        fc6, fc7 = (
            nn.Sequential(
                *(
                    layer_of(state[f"{name}.{part}.weight"], state[f"{name}.{part}.bias"])
                    for part in range(2)
                    if f"{name}.{part}.weight" in state
                )
            )
            for name in LAYERS
        )
        layers = [*fc6, *fc7, layer_of(state["fc8.weight"], state["fc8.bias"])]
        for one, after in pairwise(layers):
            if one.out_features != after.in_features:
                raise RuntimeError("layers of a truncated head do not fit together")
        return cls(fc6, fc7, layers[-1])

    @property
    def rank(self) -> int:
        """The rank of fc6."""
        return int(next(self.fc6[0].parameters()).shape[0])

    def fc6_of(self, pooled: Tensor) -> Tensor:
        """fc6 ``(P, hidden)``, after ReLU and dropout, of pooled windows ``(P, in_features)``."""
        return self.dropout(torch.relu(self.fc6(pooled.to(next(self.fc6.parameters()).dtype))))

    def fc7_of(self, fc6: Tensor) -> Tensor:
        """fc7 ``(P, hidden)``, after ReLU and dropout, of fc6."""
        return self.dropout(torch.relu(self.fc7(fc6)))

    def forward(self, pooled: Tensor) -> Tensor:
        """Class logits ``(P, K + 1)``, background last, of pooled windows."""
        return self.fc8(self.fc7_of(self.fc6_of(pooled)))

    @torch.no_grad()
    def shift_input(self, mean: Tensor) -> "TruncatedHead":
        """See ``Head.shift_input``."""
        first = self.fc6[0]
        assert isinstance(first, nn.Linear)
        first.bias.sub_(first.weight @ mean)
        return self


def head_from(state: Mapping[str, Tensor]) -> Head | TruncatedHead:
    """A head, full or truncated, from its ``state_dict``.

    Raises:
        KeyError, RuntimeError: see ``from_state``.
    """
    return (Head if "fc6.weight" in state else TruncatedHead).from_state(state)


def with_classes(
    head: Head | TruncatedHead, num_classes: int, dropout: float
) -> Head | TruncatedHead:
    """A copy of a trained head with a new (K+1)-way layer, to learn other classes.

    Args:
        head: not changed; the copy of a truncated head is truncated.
        num_classes: K. The caller initialises the new layer with ``initialise_classes``.
        dropout: share of fc6's and fc7's units dropped in training.
    """
    made = copy.deepcopy(head)
    made.fc8 = Linear(head.fc8.in_features, num_classes + 1)
    made.dropout = nn.Dropout(dropout)
    return made


@torch.no_grad()
def thin(weight: Tensor, bias: Tensor, responses: Responses, rank: int) -> nn.Sequential:
    """Two thin layers for ``W x + b``, or one layer if the rank is at least its outputs.

    Raises:
        ValueError: the rank exceeds the number of directions, or is below 1.
    """
    if rank >= len(weight):
        return nn.Sequential(layer_of(weight, bias))
    if not 1 <= rank <= responses.directions.shape[1]:
        raise ValueError(
            f"this detector's fc layers can be truncated to a rank of 1, and of "
            f"{responses.directions.shape[1]} at most, got {rank}"
        )
    mean = responses.mean.to(weight.device)
    directions = responses.directions[:, :rank].to(weight.device)
    return nn.Sequential(
        layer_of(directions.T @ weight, directions.T @ (bias - mean)), layer_of(directions, mean)
    )


@torch.no_grad()
def layer_of(weight: Tensor, bias: Tensor) -> Linear:
    """A layer with copies of the weight ``(out, in)`` and bias ``(out,)``."""
    layer = Linear(weight.shape[1], weight.shape[0], device=weight.device)
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)
    return layer


def pack(responses: Mapping[str, Responses]) -> dict[str, Tensor]:
    """Responses as named tensors, for a file."""
    return {
        f"{name}.{part}": getattr(found, part)
        for name, found in responses.items()
        for part in ("mean", "directions")
    }


def unpack(tensors: Mapping[str, Tensor]) -> dict[str, Responses]:
    """Responses from the tensors of ``pack``; empty if there are none."""
    names: Iterable[str] = LAYERS if tensors else ()
    return {
        name: Responses(tensors[f"{name}.mean"], tensors[f"{name}.directions"]) for name in names
    }
