"""Annotated images as the rest of the project sees them."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ImageRecord:
    """One annotated image.

    Attributes:
        image_id: the name result files use, unique in its split.
        path: the picture.
        size: (height, width) in pixels.
        boxes: ``(N, 4)`` float32 ground truth, half-open pixels, inside the image, area above 0.
        labels: ``(N,)`` int64, index into the dataset's classes.
        difficult: ``(N,)`` bool; such objects count neither for nor against a detector.
    """

    image_id: str
    path: Path
    size: tuple[int, int]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_]


@dataclass(frozen=True)
class Dataset:
    """A split: its records in the split's order, and the class names labels point into.

    Attributes:
        records: annotated images; a picture without objects is kept.
        classes: names of the K classes.
        repairs: how many annotations were mended on reading, by kind of repair.
    """

    records: tuple[ImageRecord, ...]
    classes: tuple[str, ...]
    repairs: Counter[str] = field(default_factory=Counter)
