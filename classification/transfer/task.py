"""A task of fixed features: images, the choice of C, what is measured, what a view gains."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from classification.transfer.judged import JudgedImages


@dataclass(frozen=True)
class Outcome:
    """What was measured.

    Attributes:
        metrics: by name, as they stand in tables.
        arrays: what gains are measured on, and what is kept.
        of_class: ``(K,)`` the first metric, of each class; NaN where no image has it.
        judged: test images by what was named of them; of several splits those of the first.
        C: weight of the SVMs' loss, as it was given or chosen; of several splits that of each.
    """

    metrics: dict[str, float]
    arrays: dict[str, NDArray]
    of_class: NDArray[np.float64]
    judged: JudgedImages
    C: tuple[float, ...]

    @property
    def C_in_words(self) -> str:
        """C, or the range it has over splits."""
        low, high = min(self.C), max(self.C)
        return f"{low:g}" if low == high else f"{low:g} to {high:g}"


class Task(Protocol):
    """What is common to both.

    Attributes:
        name: in tables.
        classes: names of the K classes.
        paths: images, all that take part.
        labels: ``(n,)`` or ``(n, K)``, what is known of each.
        unreadable: by id or path, why images are left out.
        data: the settings it was made of.
        facts: columns ``train`` and ``test`` of tables.
    """

    name: str
    classes: tuple[str, ...]
    paths: Sequence[Path]
    labels: NDArray[np.int64]
    unreadable: dict[str, str]
    data: Any
    facts: dict[str, Any]

    def leave_out(self, rows: dict[int, str]) -> None:
        """Images of ``paths`` that cannot be read take no part; why not, by place."""

    def choose(self, gram: NDArray) -> tuple[float, float]:
        """C, and what it measures on training images held back; no test image takes part.

        Of several splits it is the first one's: its training images are test images of others.
        """

    def evaluate(self, gram: NDArray, C: float | None) -> Outcome:
        """Train and test; without a C, each split chooses its own on its training images."""

    def gain(self, before: Outcome, after: Outcome) -> dict[str, float]:
        """What the second gains over the first, and the range it is in; ends of metrics' names."""
