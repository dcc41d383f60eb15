"""Fine-tuning on disk: what a killed training resumes from, to the same bits."""

import logging
from pathlib import Path

import torch
from torch import Tensor

from detection.training.finetuning.pyramid_network import PyramidNetwork
from files.artefacts import read_checkpoint, write_artefact

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
    arrays = {name: value.detach().cpu().numpy() for name, value in tensors.items()}
    write_artefact(path, key, arrays, {"step": step})


@torch.no_grad()
def resume(path: Path, key: str, network: PyramidNetwork, optimizer: torch.optim.Optimizer) -> int:
    """Load a checkpoint of the same training, if there is one; returns the next step.

    Raises:
        DamagedArtefact: the file is not whole.
    """
    if (found := read_checkpoint(path, key)) is None:
        return 0
    parameters = network.trained()
    for name, array in found.arrays.items():
        value = torch.from_numpy(array)
        kind, _, rest = name.partition(".")
        if kind == "network":
            parameters[rest].copy_(value)
        else:
            average, _, parameter = rest.partition(".")
            state = optimizer.state[parameters[parameter]]
            # Averages lie in memory as their weights do, or descent would round otherwise.
            like = parameters[parameter] if value.dim() else value
            state[average] = torch.empty_like(like, dtype=value.dtype).copy_(value)
    step = int(found.facts["step"])
    logger.info("fine-tuning resumes at step %d", step)
    return step
