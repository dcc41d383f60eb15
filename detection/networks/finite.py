"""Weights that descent has left as numbers."""

import torch
from torch import nn


def require_finite(network: nn.Module, what: str, settings: str) -> None:
    """Make sure, before a network is kept, that its last step did not end in infinity.

    A loss shows what the steps before it did.

    Args:
        network: trained.
        what: happened otherwise, for the message.
        settings: whose learning rate is to be lower.

    Raises:
        RuntimeError: a weight or buffer is not finite.
    """
    for name, value in network.state_dict().items():
        if not torch.isfinite(value).all():
            raise RuntimeError(
                f"{what}: {name} is not finite; try a lower --{settings}.learning_rate"
            )
