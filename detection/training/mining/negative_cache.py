"""What the hard-negative pass holds: the features of windows that are negatives of some class.

A window is often a hard negative of several classes, so its features are held once, with a flag a
class. They lie in blocks of an image each, so that dropping rows copies one block at a time.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass
class Block:
    """The held windows of one image: features ``(r, D)``, members ``(r, K)`` bool."""

    features: NDArray[np.float16]
    members: NDArray[np.bool_]


class NegativeCache:
    """Negatives of K classes, each window's features once, in the order they came.

    Args:
        classes: K.
        dimension: D.
    """

    def __init__(self, classes: int, dimension: int) -> None:
        self.classes = classes
        self.dimension = dimension
        self._blocks: list[Block] = []
        self._compacted = 0

    def add(self, features: NDArray[np.float16]) -> Block:
        """Hold rows ``(r, D)`` that are no class's negative yet; set ``members`` of the block."""
        block = Block(features, np.zeros((len(features), self.classes), bool))
        self._blocks.append(block)
        return block

    def gather(self, label: int) -> NDArray[np.float16]:
        """Features ``(m, D)`` of a class's negatives; a copy."""
        parts = [block.features[block.members[:, label]] for block in self._blocks]
        return np.concatenate(parts) if parts else np.zeros((0, self.dimension), np.float16)

    def keep(self, label: int, kept: NDArray[np.bool_]) -> None:
        """Let go of a class's negatives, in gather's order, where ``kept`` ``(m,)`` is False."""
        first = 0
        for block in self._blocks:
            rows = np.flatnonzero(block.members[:, label])
            block.members[rows, label] = kept[first : first + len(rows)]
            first += len(rows)

    def compact(self, *, dropped: bool = True) -> None:
        """Drop the windows that are no class's negative.

        Args:
            dropped: whether ``keep`` was called since the last time; otherwise only windows that
                were added since then are looked at.
        """
        first = 0 if dropped else self._compacted
        for block in self._blocks[first:]:
            held = block.members.any(axis=1)
            if not held.all():
                block.features, block.members = block.features[held], block.members[held]
        self._blocks[first:] = [block for block in self._blocks[first:] if len(block.features)]
        self._compacted = len(self._blocks)

    def state(self) -> dict[str, NDArray]:
        """``features.n`` ``(r, D)`` and ``members.n`` ``(r, K)`` of block n, counted from 0.

        Later changes do not reach it. The features, of which there are gigabytes, are not copied.
        """
        return {
            name: array
            for number, block in enumerate(self._blocks)
            for name, array in (
                (f"features.{number}", block.features),
                (f"members.{number}", block.members.copy()),
            )
        }

    def load(self, state: Mapping[str, NDArray]) -> None:
        """Hold the blocks of a ``state``, whose features are not copied either."""
        self._blocks = []
        while (name := f"features.{len(self._blocks)}") in state:
            members = state[f"members.{len(self._blocks)}"]
            self._blocks.append(Block(state[name], members.copy()))
