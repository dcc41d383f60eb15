"""Checkpoints of a training after each epoch; a resumed training gives the same bits."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from files.artefacts import read_checkpoint, write_artefact


def save(
    path: Path, key: str, facts: dict[str, Any], network: nn.Module, optimizer: torch.optim.SGD
) -> None:
    """Write weights, momentum buffers and facts atomically."""
    tensors: dict[str, Tensor] = {f"network.{n}": v for n, v in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        if (momentum := optimizer.state[parameter].get("momentum_buffer")) is not None:
            tensors[f"momentum.{name}"] = momentum
    arrays = {name: value.detach().cpu().numpy() for name, value in tensors.items()}
    write_artefact(path, key, arrays, facts)


def resume(
    path: Path, key: str, network: nn.Module, optimizer: torch.optim.SGD
) -> dict[str, Any] | None:
    """Load a checkpoint of the same training and return its facts; None if there is none.

    Raises:
        DamagedArtefact: the file is damaged.
    """
    if (found := read_checkpoint(path, key)) is None:
        return None
    tensors = {name: torch.from_numpy(array) for name, array in found.arrays.items()}
    state = {name: tensors[f"network.{name}"] for name in network.state_dict()}
    network.load_state_dict(state)
    for name, parameter in network.named_parameters():
        if (momentum := tensors.get(f"momentum.{name}")) is not None:
            # In the same memory order as the weights; otherwise updates round differently.
            kept = torch.empty_like(parameter).copy_(momentum)
            optimizer.state[parameter]["momentum_buffer"] = kept
    return found.facts
