"""Annotated images as the rest of the project sees them."""

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

# What Roboflow calls the versions that it makes of an image.
_VERSION = re.compile(r"(.+)\.rf\.[0-9A-Za-z]{16,}\.\w+")


@dataclass(frozen=True)
class ImageRecord:
    """One annotated image.

    Attributes:
        image_id: the name result files use, unique in its split; it may hold dots, spaces and
            subfolders, and never leads out of a folder.
        path: of the image.
        size: (height, width) in pixels.
        boxes: ``(N, 4)`` float32 ground truth, half-open pixels, inside the image, area above 0.
        labels: ``(N,)`` int64, index into the dataset's classes.
        difficult: ``(N,)`` bool; such objects count neither for nor against a detector.
        mirrored: the image is the file's, mirrored left to right, and so are the boxes.
    """

    image_id: str
    path: Path
    size: tuple[int, int]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_]
    mirrored: bool = False

    def read(self) -> NDArray[np.uint8]:
        """The image, ``(H, W, 3)`` RGB; errors as ``read_image``."""
        image = read_image(self.path)
        return np.ascontiguousarray(image[:, ::-1]) if self.mirrored else image

    def turned(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Windows ``(P, 4)`` of the file's image, in this one."""
        return flip_boxes(windows, self.size[1]) if self.mirrored else windows

    def mirror(self) -> "ImageRecord":
        """The image and its boxes mirrored left to right."""
        boxes = flip_boxes(self.boxes, self.size[1])
        return replace(self, boxes=boxes, mirrored=not self.mirrored)


@dataclass(frozen=True)
class Dataset:
    """A split: its records in the split's order, and the class names labels point into.

    Attributes:
        records: annotated images; an image without objects is kept.
        classes: names of the K classes.
        repairs: how many annotations and images were mended on reading, by kind of repair.
        unreadable: images of the split that are left out, by id; each with a sentence that names
            the file and the reason.
        split: its name in the data, which may be another than was asked for; empty if it has none.
    """

    records: tuple[ImageRecord, ...]
    classes: tuple[str, ...]
    repairs: Counter[str] = field(default_factory=Counter)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    split: str = ""

    def with_mirrored(self) -> "Dataset":
        """The images, and after them each of them mirrored."""
        mirrored = tuple(record.mirror() for record in self.records)
        return replace(self, records=self.records + mirrored)

    def without(self, unreadable: Mapping[str, str]) -> "Dataset":
        """The split with more images left out; each is logged as a warning.

        Args:
            unreadable: by id, a sentence that names the file and the reason.

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
    """For each image a word that it shares with its copies: the digest of one of them.

    Copies are files of the same bytes, and Roboflow's versions of an image, turned or darkened,
    which are called ``NAME.rf.HASH.jpg``.
    """
    digests = [content_digest(path) for path in paths]
    words: dict[str, str] = {}
    for digest, path in sorted(zip(digests, paths, strict=True)):
        version = _VERSION.fullmatch(path.name)
        word = digest if version is None else words.setdefault(f"{version[1]}.rf.", digest)
        words.setdefault(digest, word)
    return [words[digest] for digest in digests]
