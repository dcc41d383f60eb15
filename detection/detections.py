"""The result type: what a detector found in one image."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Detections:
    """Boxes with scores and labels, in one image.

    Attributes:
        boxes: ``(N, 4)`` float32, half-open pixels of the original image.
        scores: ``(N,)`` float32; higher is surer. Probabilities where a calibrated detector shows
            them (``SPPDetector.detect``), else raw scores.
        labels: ``(N,)`` int64, index into ``classes``.
        classes: names of the K classes.

    Iterating gives ``(box, class name, score)``; indexing with a slice, a mask or an index array
    gives Detections.

    Raises:
        ValueError: when shapes or dtypes are not those above.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        count = len(self.scores)
        for name, dtype, shape in (
            ("boxes", np.float32, (count, 4)),
            ("scores", np.float32, (count,)),
            ("labels", np.int64, (count,)),
        ):
            array = getattr(self, name)
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(
                    f"Detections.{name} must be {np.dtype(dtype)} of shape {shape}, "
                    f"got {array.dtype} of shape {array.shape}"
                )

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[tuple[NDArray[np.float32], str, float]]:
        for box, label, score in zip(self.boxes, self.labels, self.scores, strict=True):
            yield box, self.classes[label], float(score)

    def __getitem__(self, index: slice | NDArray) -> "Detections":
        return Detections(self.boxes[index], self.scores[index], self.labels[index], self.classes)

    @classmethod
    def empty(cls, classes: tuple[str, ...]) -> "Detections":
        """No detection of any of the classes."""
        return cls(
            np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), classes
        )
