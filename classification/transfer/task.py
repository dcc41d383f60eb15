"""A task for fixed features: images, the choice of C, the results, and the gain of a view."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from classification.transfer.judged import JudgedImages


@dataclass(frozen=True)
class Outcome:
    """The results of a task.

    Attributes:
        metrics: by their names in tables.
        arrays: for computing gains, and for saving.
        of_class: ``(K,)`` the first metric of each class; NaN if no image has the class.
        judged: test images with their predictions; of several splits, those of the first.
        C: weight of the SVMs' loss, given or chosen; one for each split.
    """

    metrics: dict[str, float]
    arrays: dict[str, NDArray]
    of_class: NDArray[np.float64]
    judged: JudgedImages
    C: tuple[float, ...]

    @property
    def C_in_words(self) -> str:
        """C, or its range over splits."""
        low, high = min(self.C), max(self.C)
        return f"{low:g}" if low == high else f"{low:g} to {high:g}"


class Task(Protocol):
    """The interface of both tasks.

    Attributes:
        name: in tables.
        classes: names of the K classes.
        paths: of all images.
        labels: ``(n,)`` or ``(n, K)``, labels of the images.
        unreadable: by id or path, why images are left out.
        data: the task's settings.
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
        """Leave out unreadable images of ``paths``, given by index, with the reason."""

    def choose(self, gram: NDArray) -> tuple[float, float]:
        """C, and its measure on held-back training images, without test images.

        With several splits, this is the choice of the first split. Other splits must not use it,
        because its training images are among their test images.
        """

    def evaluate(self, gram: NDArray, C: float | None) -> Outcome:
        """Train and test; without a C, each split chooses its own from its training images."""

    def gain(self, before: Outcome, after: Outcome) -> dict[str, float]:
        """The gain of the second over the first, and its range, by suffixes of metrics' names."""
