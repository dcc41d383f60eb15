"""A detector's file: an artefact with its tensors, and its settings for facts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from files.artefacts import DamagedArtefact, read_artefact, write_artefact

# The key of a detector's artefact.
FORMAT = "sppnet-detection 6"
# What the name of a matrix's steps ends with, beside its whole numbers.
STEP = ".step"
# Whole numbers of one byte go from -127 to 127.
MOST = 127
# Parts whose matrices are written as whole numbers where a small file is asked for.
LARGE = ("trunk.", "head.", "bbox.")

# Where the detectors lie that come with the package, by name.
SHIPPED = Path(__file__).resolve().parents[1] / "shipped"

Numbers = Literal["float32", "int8"]


def write_detector(
    path: str | Path,
    settings: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    numbers: Numbers = "float32",
) -> None:
    """Write settings that JSON knows and tensors, whole or not at all.

    Args:
        path: of the file.
        settings: facts about the detector.
        tensors: by name.
        numbers: int8 writes the large matrices as whole numbers of one byte, with a step for each
            row: a quarter of the file, and weights that differ by half a step at most.
    """
    if numbers == "int8":
        tensors = quantised(tensors)
    arrays = {name: value.detach().cpu().numpy() for name, value in tensors.items()}
    write_artefact(path, FORMAT, arrays, settings)


def quantised(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The large matrices as int8, each with the steps of its rows; the rest as it is."""
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if value.dim() < 2 or not name.startswith(LARGE):
            found[name] = value
            continue
        rows = value.detach().flatten(1).float()
        step = rows.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / MOST
        found[name] = (rows / step[:, None]).round().to(torch.int8).view(value.shape)
        found[name + STEP] = step
    return found


def restored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that ``quantised`` was given, to half a step; others as they are.

    Raises:
        KeyError: the steps of a matrix are missing.
    """
    found = {}
    for name, value in tensors.items():
        if value.dtype == torch.int8:
            value = (value.flatten(1).float() * tensors[name + STEP][:, None]).view(value.shape)
        if not name.endswith(STEP):
            found[name] = value
    return found


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
            f"format '{FORMAT}', as written by a training"
        ) from error
    tensors = {name: torch.from_numpy(array) for name, array in found.arrays.items()}
    try:
        return found.facts, restored(tensors)
    except KeyError as error:
        raise ValueError(f"{path} is not a detector of this version: it lacks {error}") from error
    except (IndexError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not a detector of this version ({reason})") from error


def shipped(path: str | Path) -> Path:
    """The file of a detector that comes with the package, if its name is given; else the path."""
    known = SHIPPED / f"{path}.safetensors"
    named = Path(path).name == str(path) and not Path(path).exists()
    return known if named and known.is_file() else Path(path)


def part_sizes(path: Path) -> dict[str, int]:
    """Bytes of a detector file's tensors, by part: trunk, head, responses, svm, bbox, ..."""
    sizes: dict[str, int] = {}
    for name, array in read_artefact(path, FORMAT).arrays.items():
        part = name.partition(".")[0]
        sizes[part] = sizes.get(part, 0) + array.nbytes
    return sizes
