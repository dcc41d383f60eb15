"""A detector's file: one safetensors file with its settings as JSON inside."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from proposals.disk import write_atomic

FORMAT = "sppnet-detection 4"


def write_detector(
    path: str | Path, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Write settings that JSON knows and tensors, whole or not at all."""
    # One entry only: safetensors writes several in an order that changes from save to save.
    metadata = {"settings": json.dumps({"format": FORMAT, **settings})}
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with write_atomic(path) as file:
        file.write(to_safetensors(contiguous, metadata))


def read_detector(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings and tensors of a detector file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a detector of this format.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no detector at {path}; python tools/train_det.py trains one")
    try:
        with safe_open(path, "pt") as file:
            settings = json.loads((file.metadata() or {}).get("settings", "{}"))
            if settings.get("format") != FORMAT:
                found = settings.get("format", "no format mark")
                raise ValueError(f"{path} is not a detector: expected '{FORMAT}', found {found}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a detector file ({error}); expected a run's detector.safetensors"
        ) from error
    return settings, tensors
