"""The SVMs of a block of images as other processes find them: in a file, read once by each."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from detection.networks.weights import tensor_digest
from detection.training.mining.hard_negatives import Model
from files.artefacts import read_artefact, strip_prefix, write_artefact


class ModelsFile(NamedTuple):
    """An artefact of each layer's SVMs, with its key."""

    path: Path
    key: str

    @classmethod
    def write(cls, path: Path, models: Mapping[str, Model]) -> "ModelsFile":
        """The file, written."""
        arrays = {
            f"{layer}.{name}": np.asarray(value)
            for layer, model in models.items()
            for name, value in vars(model).items()
        }
        key = tensor_digest({name: torch.from_numpy(value) for name, value in arrays.items()})
        write_artefact(path, key, arrays)
        return cls(path, key)

    def read(self) -> dict[str, Model]:
        """The SVMs of each layer.

        Raises:
            DamagedArtefact: the file is not whole, or another's.
        """
        arrays = read_artefact(*self).arrays
        named = {
            layer: strip_prefix(arrays, f"{layer}.")
            for layer in dict.fromkeys(name.split(".")[0] for name in arrays)
        }
        return {
            layer: Model(each["weights"], each["bias"], each["fitted"], float(each["threshold"]))
            for layer, each in named.items()
        }


@lru_cache(maxsize=1)
def models_of_process(file: ModelsFile) -> dict[str, Model]:
    """The SVMs of a block, read once in a process."""
    return file.read()
