"""A detector's file: an artefact with its tensors, and its settings for facts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from files.artefacts import DamagedArtefact, read_artefact, write_artefact

# The key of a detector's artefact.
FORMAT = "sppnet-detection 5"


def write_detector(
    path: str | Path, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Write settings that JSON knows and tensors, whole or not at all."""
    arrays = {name: value.detach().cpu().numpy() for name, value in tensors.items()}
    write_artefact(path, FORMAT, arrays, settings)


def read_detector(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings and tensors of a detector file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or no detector of this format.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"no detector at {path} ({path.absolute()}); python tools/train_det.py trains one"
        )
    try:
        found = read_artefact(path, FORMAT)
    except DamagedArtefact as error:
        reason = str(error).removeprefix(f"{path} ").partition(";")[0]
        raise ValueError(
            f"{path} is not a detector: it {reason}; expected a run's detector.safetensors of the "
            f"format '{FORMAT}', which training leaves"
        ) from error
    return found.facts, {name: torch.from_numpy(array) for name, array in found.arrays.items()}
