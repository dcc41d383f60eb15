"""Fine-tuning on disk: what a killed training goes on from, to the same bits."""

import logging
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from detection.training.pyramid_network import PyramidNetwork
from proposals.disk import write_atomic

logger = logging.getLogger(__name__)


def save(
    path: Path, key: str, step: int, network: PyramidNetwork, optimizer: torch.optim.Optimizer
) -> None:
    """Write trained weights, the optimizer's averages and the step, whole or not at all."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in network.trained().items():
        tensors[f"network.{name}"] = parameter
        for kind, value in optimizer.state[parameter].items():
            if value is not None:
                tensors[f"optimizer.{kind}.{name}"] = value
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with write_atomic(path) as file:
        file.write(to_safetensors(tensors, {"key": key, "step": str(step)}))


@torch.no_grad()
def resume(path: Path, key: str, network: PyramidNetwork, optimizer: torch.optim.Optimizer) -> int:
    """Load a checkpoint of the same training, if there is one; returns the next step.

    Raises:
        ValueError: the file is not a checkpoint.
    """
    if not path.exists():
        return 0
    try:
        with safe_open(path, "pt") as file:
            facts = file.metadata() or {}
            if facts.get("key") != key:
                return 0
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a fine-tuning checkpoint ({error}); delete it and run again"
        ) from error
    parameters = network.trained()
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "network":
            parameters[rest].copy_(value)
        else:
            average, _, parameter = rest.partition(".")
            state = optimizer.state[parameters[parameter]]
            # Averages lie in memory as their weights do, or descent would round otherwise.
            like = parameters[parameter] if value.dim() else value
            state[average] = torch.empty_like(like, dtype=value.dtype).copy_(value)
    logger.info("fine-tuning goes on from step %s", facts["step"])
    return int(facts["step"])
