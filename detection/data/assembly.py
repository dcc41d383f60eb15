"""Makes a ``Dataset`` from annotated images of any format: measures images and repairs boxes."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detection.data.annotations import Annotation, make_record
from detection.data.records import Dataset, ImageRecord
from files.images import UnreadableImage, cut_short, image_size

CUT_SHORT = "image cut short, its rows read to the end"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Labelled:
    """An image and its annotation.

    Attributes:
        image_id: the image's name in lists and results.
        path: of the image.
        annotation: without repairs.
    """

    image_id: str
    path: Path
    annotation: Annotation


def assemble(
    labelled: Sequence[Labelled],
    split: str,
    classes: tuple[str, ...],
    *,
    images: bool = True,
    strict: bool = False,
) -> Dataset:
    """The records of a split, in its order.

    Args:
        labelled: images of the split.
        split: its name, for messages.
        classes: names that labels index.
        images: False opens no image whose annotation gives the size; the record has this size.
        strict: an unreadable image is an error; otherwise it is left out.

    Returns:
        The records, the number of repairs by kind (one logged warning per kind), and the images
        left out.

    Raises:
        FileNotFoundError: an image is missing.
        ValueError: an object has another class, an annotated size differs from the image's, or no
            image can be read.
    """
    records: list[ImageRecord] = []
    repairs: list[tuple[str, str]] = []
    unreadable: dict[str, str] = {}
    for each in labelled:
        if images:
            try:
                size, cut = image_size(each.path), cut_short(each.path)
            except UnreadableImage as error:
                if strict:
                    raise
                unreadable[each.image_id] = str(error)
                continue
            _check_size(each.annotation, each.path, size)
            repairs += [(CUT_SHORT, str(each.path))] if cut else []
        else:
            size = _annotated_size(each)
        record, mended = make_record(each.annotation, each.image_id, each.path, size, classes)
        records.append(record)
        repairs += [(kind, each.annotation.source) for kind in mended.elements()]
    repaired = _counted(repairs, split)
    return Dataset(tuple(records), classes, repaired, split=split).without(unreadable)


def count_objects(
    annotations: Sequence[Annotation], split: str, *, needed: bool, expected: str
) -> None:
    """Log how many images have no object.

    Args:
        annotations: of the split's images.
        split: its name, for messages.
        needed: whether there must be objects, for example to find the classes.
        expected: form of an object in this format, for messages.

    Raises:
        ValueError: no image has an object, and objects are needed.
    """
    empty = [annotation.source for annotation in annotations if not annotation.names]
    if needed and len(empty) == len(annotations):
        raise ValueError(
            f"no object in the {len(annotations)} annotation files of '{split}'; expected "
            f"{expected}" + (f": look at {empty[0]}" if empty else "")
        )
    if empty:
        logger.warning(
            "images without objects: %d of %d in %s, first %s",
            *(len(empty), len(annotations), split, empty[0]),
        )


def _counted(repairs: list[tuple[str, str]], split: str) -> Counter[str]:
    """Number of repairs by kind; logs one warning per kind, which names the first file."""
    counts = Counter(kind for kind, _ in repairs)
    first = dict(reversed(repairs))
    for kind, count in counts.items():
        logger.warning("%s: %d in %s, first in %s", kind, count, split, first[kind])
    return counts


def _annotated_size(each: Labelled) -> tuple[int, int]:
    """The size from the annotation or, if it has none, from the image."""
    if each.annotation.size is not None:
        return each.annotation.size
    if each.path.is_file():
        return image_size(each.path)
    raise ValueError(
        f"{each.annotation.source} gives no <size>, and there is no image at {each.path} to measure"
    )


def _check_size(annotation: Annotation, path: Path, size: tuple[int, int]) -> None:
    """Check that the upright image has the annotated size."""
    if annotation.size in (None, size):
        return
    cause = "the boxes were drawn on another version of the image: label this one, or use that one"
    if annotation.size == size[::-1]:
        cause = (
            "the boxes were drawn on the image before it was turned, as by its EXIF tag: label the "
            "upright image, or remove the tag, as with `exiftool -Orientation= FILE`"
        )
    raise ValueError(
        f"{annotation.source} says height {annotation.size[0]}, width {annotation.size[1]}, but "
        f"{path} has height {size[0]}, width {size[1]}; {cause}"
    )
