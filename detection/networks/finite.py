"""Check that a trained network's weights are finite."""

import torch
from torch import nn


def require_finite(network: nn.Module, what: str, settings: str) -> None:
    """Check, before a network is saved, that its last update did not make a weight infinite or NaN.

    The loss cannot show this: it is computed before the update.

    Args:
        network: a trained network.
        what: beginning of the error message: what went wrong.
        settings: group of settings whose learning rate should be lower, for the error message.

    Raises:
        RuntimeError: a weight or buffer is not finite.
    """
    for name, value in network.state_dict().items():
        if not torch.isfinite(value).all():
            raise RuntimeError(
                f"{what}: {name} is not finite; try a lower --{settings}.learning_rate"
            )
