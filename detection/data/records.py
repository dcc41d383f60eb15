"""Annotated images in the form that all later stages use."""

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detection.boxes import flip_boxes
from files.images import read_image
from files.writing import content_digest

logger = logging.getLogger(__name__)

# Names of the augmented versions of an image that Roboflow makes.
_VERSION = re.compile(r"(.+)\.rf\.[0-9A-Za-z]{16,}\.\w+")


@dataclass(frozen=True)
class ImageRecord:
    """One annotated image.

    Attributes:
        image_id: the image's name in result files, unique in its split. It may have dots, spaces
            and subfolders, but never leads out of a folder.
        path: of the image.
        size: (height, width) in pixels.
        boxes: ``(N, 4)`` float32 ground truth, half-open pixels, inside the image, area above 0.
        labels: ``(N,)`` int64, index into the dataset's classes.
        difficult: ``(N,)`` bool; such objects are ignored in evaluation.
        mirrored: whether the file's image and its boxes are mirrored left to right.
    """

    image_id: str
    path: Path
    size: tuple[int, int]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_]
    mirrored: bool = False

    def read(self) -> NDArray[np.uint8]:
        """The image, ``(H, W, 3)`` RGB; errors: see ``read_image``."""
        image = read_image(self.path)
        return np.ascontiguousarray(image[:, ::-1]) if self.mirrored else image

    def turned(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Windows ``(P, 4)`` of the file's image, mirrored if this record is."""
        return flip_boxes(windows, self.size[1]) if self.mirrored else windows

    def mirror(self) -> "ImageRecord":
        """The record with its image and boxes mirrored left to right."""
        boxes = flip_boxes(self.boxes, self.size[1])
        return replace(self, boxes=boxes, mirrored=not self.mirrored)


@dataclass(frozen=True)
class Dataset:
    """A split: its records in the split's order, and the class names that labels index.

    Attributes:
        records: annotated images, including images without objects.
        classes: names of the K classes.
        repairs: number of annotations and images repaired during reading, by kind.
        unreadable: by id, the images that were left out; each with a sentence that names the file
            and the reason.
        split: its name in the data, which may differ from the requested name; empty if it has none.
    """

    records: tuple[ImageRecord, ...]
    classes: tuple[str, ...]
    repairs: Counter[str] = field(default_factory=Counter)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    split: str = ""

    def with_mirrored(self) -> "Dataset":
        """The records, followed by their mirrored versions."""
        mirrored = tuple(record.mirror() for record in self.records)
        return replace(self, records=self.records + mirrored)

    def without_mirrored(self) -> "Dataset":
        """The records that are not mirrored."""
        return replace(self, records=tuple(each for each in self.records if not each.mirrored))

    def without(self, unreadable: Mapping[str, str]) -> "Dataset":
        """The split without more images; each is logged as a warning.

        Args:
            unreadable: the images by id; each with a sentence that names the file and the reason.

        Raises:
            ValueError: no image is left.
        """
        for sentence in unreadable.values():
            logger.warning("left out: %s", sentence)
        records = tuple(each for each in self.records if each.image_id not in unreadable)
        left_out = {**self.unreadable, **unreadable}
        if left_out and not records:
            raise ValueError(
                f"none of {len(left_out)} images can be read; the first: "
                f"{next(iter(left_out.values()))}"
            )
        return replace(self, records=records, unreadable=left_out)


def copies(paths: Sequence[Path]) -> list[str]:
    """For each image, a string that it shares with its copies: the digest of one of them.

    Copies are files with the same bytes, and Roboflow's augmented versions of an image, rotated or
    darkened, which have names like ``NAME.rf.HASH.jpg``.
    """
    digests = [content_digest(path) for path in paths]
    words: dict[str, str] = {}
    for digest, path in sorted(zip(digests, paths, strict=True)):
        version = _VERSION.fullmatch(path.name)
        word = digest if version is None else words.setdefault(f"{version[1]}.rf.", digest)
        words.setdefault(digest, word)
    return [words[digest] for digest in digests]
