"""fc6, fc7 and the fine-tuning layer on top of the pyramid (paper 4.1)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from detection.networks.linear import Linear, linear
from detection.networks.pyramid import BINS, LEVELS


class Head(nn.Module):
    """Two rectified fully connected layers and a (K+1)-way linear layer.

    Args:
        in_features: length of a pooled window, ``50 * C``.
        num_classes: K; the linear layer has K + 1 outputs, background last. With None it has no
            outputs, and the head only computes features.
        hidden: width of fc6 and fc7, 4096 in the paper.
        dropout: share of fc6's and fc7's units dropped in training. PyTorch rescales during
            training, so nothing is rescaled in tests.

    Pooled windows are first multiplied by the buffer ``input_scale``. It is 1 if fc6 starts from
    ImageNet weights. Otherwise it brings their mean square to 1, which He initialisation assumes.
    """

    input_scale: Tensor

    def __init__(
        self, in_features: int, num_classes: int | None, hidden: int = 4096, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.fc6 = Linear(in_features, hidden)
        self.fc7 = Linear(hidden, hidden)
        self.fc8 = Linear(hidden, 0 if num_classes is None else num_classes + 1)
        self.dropout: nn.Module = nn.Dropout(dropout)
        self.register_buffer("input_scale", torch.ones(()))

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "Head":
        """A head without dropout from a ``state_dict``, whose tensors it copies.

        Raises:
            KeyError: a layer is missing.
            RuntimeError: the layers do not fit together.
        """
        (outputs, hidden), length = state["fc8.weight"].shape, state["fc6.weight"].shape[1]
        head = cls(length, outputs - 1 if outputs else None, hidden, dropout=0.0)
        head.load_state_dict(state)
        return head

    def fc6_of(self, pooled: Tensor) -> Tensor:
        """fc6 ``(P, hidden)``, after ReLU and dropout, of pooled windows ``(P, in_features)``."""
        return self.dropout(torch.relu(self.fc6_response(pooled)))

    def fc6_response(self, pooled: Tensor) -> Tensor:
        """fc6 ``(P, hidden)`` before its ReLU."""
        weight, bias = self.fc6.weight, self.fc6.bias
        # Scales the outputs: there are a third as many of them as inputs.
        return linear(pooled.to(weight.dtype), weight) * self.input_scale + bias

    def fc7_of(self, fc6: Tensor) -> Tensor:
        """fc7 ``(P, hidden)``, after ReLU and dropout, of fc6."""
        return self.dropout(torch.relu(self.fc7(fc6)))

    def forward(self, pooled: Tensor) -> Tensor:
        """Class logits ``(P, K + 1)``, background last, of pooled windows."""
        return self.fc8(self.fc7_of(self.fc6_of(pooled)))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator, mean_square: float) -> None:
        """He initialisation for fc6 and fc7; Gaussian, deviation 0.01, for the (K+1)-way layer.

        Args:
            generator: source of the random weights.
            mean_square: mean of the squared elements of pooled windows, above 0.
        """
        for layer in (self.fc6, self.fc7):
            layer.weight.normal_(0, (2 / layer.in_features) ** 0.5, generator=generator)
            layer.bias.zero_()
        initialise_classes(self.fc8, generator)
        self.input_scale.fill_(mean_square**-0.5)

    @torch.no_grad()
    def shift_input(self, mean: Tensor) -> "Head":
        """Change a head trained on ``pooled - mean`` to take ``pooled``; returns the head."""
        self.fc6.bias.sub_(self.input_scale * (self.fc6.weight @ mean))
        return self

    @torch.no_grad()
    def start_from_imagenet(
        self, classifier: Mapping[str, Tensor], generator: torch.Generator
    ) -> None:
        """Replace the random fc6 and fc7 by ImageNet's.

        The pre-trained filters of fc6 were trained on a 6x6 map, so they become the weights of
        level 6. The weights of the coarser levels start near zero.

        Args:
            classifier: ``fc6.weight (hidden, C*36)``, ``fc6.bias``, ``fc7.weight``, ``fc7.bias``.
            generator: source of the near-zero weights.

        Raises:
            ValueError: the shapes do not fit this head.
        """
        channels = self.fc6.in_features // BINS
        fine = channels * LEVELS[-1] ** 2
        if classifier["fc6.weight"].shape != (self.fc6.out_features, fine):
            raise ValueError(
                f"ImageNet's fc6 is {tuple(classifier['fc6.weight'].shape)}, this head needs "
                f"{(self.fc6.out_features, fine)}; set --finetune.hidden 4096"
            )
        self.fc6.weight.normal_(0, 1e-4, generator=generator)
        self.fc6.weight[:, -fine:] = classifier["fc6.weight"]
        self.fc6.bias.copy_(classifier["fc6.bias"])
        self.fc7.weight.copy_(classifier["fc7.weight"])
        self.fc7.bias.copy_(classifier["fc7.bias"])
        self.input_scale.fill_(1.0)


@torch.no_grad()
def initialise_classes(fc8: nn.Linear, generator: torch.Generator) -> None:
    """Initialise the (K+1)-way layer: Gaussian with deviation 0.01, as in the paper."""
    fc8.weight.normal_(0, 0.01, generator=generator)
    fc8.bias.zero_()
