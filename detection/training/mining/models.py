"""The SVMs at one moment of the mining, by which windows are hard; their file for other processes.

The processes that search a block of images read the file once each.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from detection.learners.scores import linear_scores
from detection.networks.weights import tensor_digest
from files.artefacts import read_artefact, strip_prefix, write_artefact


@dataclass(frozen=True)
class Model:
    """The SVMs at one moment of the mining, which decide whether a window is hard.

    Attributes:
        weights: ``(K, D)`` weights of the SVMs.
        bias: ``(K,)`` their intercepts.
        thresholds: ``(K,)`` a window is hard for a class if it scores above this (strict); -inf
            for a class without an SVM, for which every window is hard.
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    thresholds: NDArray[np.float32]

    def scores(self, features: NDArray) -> NDArray[np.float32]:
        """Scores ``(U, K)`` of rows ``(U, D)``.

        Raises:
            ValueError: a feature is not finite.
        """
        scores = linear_scores(features, self.weights, self.bias)
        if not np.isfinite(scores).all():
            raise ValueError("features are not finite")
        return scores

    def hard(self, features: NDArray) -> NDArray[np.bool_]:
        """Whether rows ``(U, D)`` are hard for each class, ``(U, K)``; errors as ``scores``."""
        return np.asarray(self.scores(features) > self.thresholds)


class ModelsFile(NamedTuple):
    """An artefact of each layer's SVMs, with its key."""

    path: Path
    key: str

    @classmethod
    def write(cls, path: Path, models: Mapping[str, Model]) -> "ModelsFile":
        """The file, written."""
        arrays = {
            f"{layer}.{name}": value
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
        return {layer: Model(**each) for layer, each in named.items()}


@lru_cache(maxsize=1)
def models_of_process(file: ModelsFile) -> dict[str, Model]:
    """The SVMs of a block, read once in a process."""
    return file.read()
