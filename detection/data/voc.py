"""VOC reader: annotated images from a folder in VOC's layout, official or your own.

The layout is ``Annotations/<id>.xml``, ``JPEGImages/<id>.jpg`` (or .jpeg, .png, in any case) and
``ImageSets/Main/<split>.txt`` with one id a line. What a hand-made data set gets wrong is either
mended and counted, or refused in a sentence that names the file:

======================================================  ========================================
corners in the wrong order (xmin > xmax, ymin > ymax)   swapped, counted
box partly outside the picture (xmin = 0 included)      clipped, counted
box wholly outside, (0, 0, 0, 0) included               dropped, counted
no ``difficult``, or an empty one                       not difficult
no ``size``, or one of zero                             the picture's own
``size`` that is not the upright picture's              refused: the boxes belong to another one
XML that does not parse, a missing or wrong field       refused
======================================================  ========================================

Corners are inclusive, so xmin = xmax is a box one pixel wide and needs no repair.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from detection.data.records import Dataset, ImageRecord
from detection.data.voc_xml import GET_DATA, Annotation, mend_boxes, read_annotation

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)

SUFFIXES = (".jpg", ".jpeg", ".png")
EXIF_ORIENTATION = 0x0112
QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations that exchange height and width

logger = logging.getLogger(__name__)


def read_voc(
    root: str | Path,
    split: str,
    classes: Sequence[str] | None = None,
    limit: int | None = None,
    pictures: bool = True,
) -> Dataset:
    """Records of a split, in its order.

    Args:
        root: folder that holds ``Annotations``, or a ``VOCdevkit`` that holds ``VOC2007``.
        split: name of a file in ``ImageSets/Main``, without ``.txt``. A second column of -1, 0 or 1
            (VOC's per-class lists) is passed over.
        classes: class names that labels index. None: the names found in the records read, in
            VOC's official order if all are among its 20, else sorted; VOC's 20 if there are none.
        limit: read the first so many ids only.
        pictures: False looks for no picture, for scoring where there are none: a record's path is
            what it would be, and its size is the annotation's, which must then give one.

    Returns:
        The records, boxes half-open and inside the picture, and the repairs by kind; each kind
        is also logged as one warning.

    Raises:
        FileNotFoundError: no such folder, split, annotation or picture.
        ValueError: a file that cannot be used, or an object of a class not in ``classes``.
    """
    folder = find_voc_folder(root)
    image_ids = read_split(folder, split)
    if limit is not None:
        if limit < 1:
            raise ValueError(f"limit must be 1 or more (or none), got {limit}")
        image_ids = image_ids[:limit]
    annotations = [read_annotation(folder / "Annotations" / f"{name}.xml") for name in image_ids]
    known = _class_names(annotations, classes)

    finder = _Pictures(folder / "JPEGImages")
    repairs: Counter[str] = Counter()
    first: dict[str, Path] = {}
    records = []
    for image_id, annotation in zip(image_ids, annotations, strict=True):
        if pictures:
            picture = finder.find(image_id)
            size = _checked_size(annotation, picture)
        else:
            picture = finder.folder / f"{image_id}.jpg"
            size = _annotated_size(annotation)
        record, mended = make_record(annotation, image_id, picture, size, known)
        records.append(record)
        repairs.update(mended)
        for kind in mended:
            first.setdefault(kind, annotation.path)
    for kind, count in repairs.items():
        logger.warning("%s: %d in %s, first in %s", kind, count, split, first[kind])
    return Dataset(tuple(records), known, repairs)


def find_voc_folder(root: str | Path) -> Path:
    """The folder that holds ``Annotations``: ``root``, or ``VOC2007`` inside it."""
    root = Path(root)
    for folder in (root, root / "VOC2007"):
        if (folder / "Annotations").is_dir():
            return folder
    found = "holds neither Annotations nor VOC2007" if root.is_dir() else "is not there"
    raise FileNotFoundError(f"data folder {root} {found}; {GET_DATA}")


def read_split(folder: Path, split: str) -> list[str]:
    """Image ids of ``ImageSets/Main/<split>.txt``, in its order, each once."""
    path = folder / "ImageSets" / "Main" / f"{split}.txt"
    if not path.is_file():
        others = sorted(p.stem for p in path.parent.glob("*.txt") if "_" not in p.stem)
        raise FileNotFoundError(
            f"no split '{split}' at {path}; splits there: {', '.join(others) or 'none'}"
        )
    image_ids: dict[str, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) > 2 or (len(fields) == 2 and fields[1] not in ("-1", "0", "1")):
            raise ValueError(
                f"{path} line {number} is '{line.strip()}'; expected one image id without spaces"
            )
        if fields[0] in image_ids:
            raise ValueError(
                f"{path} names '{fields[0]}' twice, in lines {image_ids[fields[0]]} and {number}"
            )
        image_ids[fields[0]] = number
    if not image_ids:
        raise ValueError(f"{path} names no image")
    return list(image_ids)


def make_record(
    annotation: Annotation,
    image_id: str,
    picture: Path,
    size: tuple[int, int],
    classes: Sequence[str],
) -> tuple[ImageRecord, Counter[str]]:
    """The record of an annotation, its boxes mended, and the repairs by kind.

    Args:
        annotation: as read from its file.
        image_id: the record's name.
        picture: the record's picture; not opened.
        size: (height, width) the boxes are clipped to.
        classes: names that labels index.

    Raises:
        ValueError: an object's class is not in ``classes``.
    """
    for name in annotation.names:
        if name not in classes:
            raise ValueError(
                f"{annotation.path} has an object of class '{name}', which is none of the classes "
                f"{', '.join(classes)}"
            )
    boxes, kept, repairs = mend_boxes(annotation.corners, size)
    labels = np.array([classes.index(name) for name in annotation.names], np.int64)
    difficult = annotation.difficult[kept]
    return ImageRecord(image_id, picture, size, boxes, labels[kept], difficult), repairs


def _class_names(
    annotations: Sequence[Annotation], classes: Sequence[str] | None
) -> tuple[str, ...]:
    if classes is None:
        found = {name for annotation in annotations for name in annotation.names}
        if not found <= set(VOC_CLASSES):
            return tuple(sorted(found))
        return tuple(name for name in VOC_CLASSES if name in found) or VOC_CLASSES
    if not classes or len(set(classes)) < len(classes):
        raise ValueError(
            f"classes must be names without repetition, at least one; got {list(classes)}"
        )
    return tuple(classes)


class _Pictures:
    """Finds pictures by id; lists the folder only when ``<id>.jpg`` is not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.others: dict[str, Path] | None = None

    def find(self, image_id: str) -> Path:
        """The picture of an id: ``<id>.jpg``, else .jpeg or .png, in any case of the suffix."""
        path = self.folder / f"{image_id}.jpg"
        if path.is_file():
            return path
        if self.others is None:
            listed = self.folder.iterdir() if self.folder.is_dir() else ()
            pictures = [p for p in sorted(listed) if p.suffix.lower() in SUFFIXES]
            pictures.sort(key=lambda p: SUFFIXES.index(p.suffix.lower()), reverse=True)
            self.others = {p.stem: p for p in pictures}
        if image_id not in self.others:
            raise FileNotFoundError(f"no picture at {path} (nor .jpeg, .png); {GET_DATA}")
        return self.others[image_id]


def _annotated_size(annotation: Annotation) -> tuple[int, int]:
    if annotation.size is None:
        raise ValueError(f"{annotation.path} gives no <size>; expected one, as no picture is read")
    return annotation.size


def _checked_size(annotation: Annotation, picture: Path) -> tuple[int, int]:
    """Size of the upright picture, from its header; it must be the annotated one."""
    try:
        with Image.open(picture) as header:
            width, height = header.size
            turned = header.getexif().get(EXIF_ORIENTATION) in QUARTER_TURNS
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{picture} is not a readable picture ({error}); expected a whole JPEG or PNG"
        ) from error
    size = (width, height) if turned else (height, width)
    if annotation.size not in (None, size):
        raise ValueError(
            f"{annotation.path} says height {annotation.size[0]}, width {annotation.size[1]}, but "
            f"{picture} has height {size[0]}, width {size[1]}"
            + (" once turned upright by its EXIF tag" if turned else "")
            + "; the boxes were drawn on another version of the picture"
        )
    return size
