"""VOC reader: annotated images from a folder in VOC's layout, official or your own.

The layout is ``Annotations/<id>.xml``, ``JPEGImages/<id>.jpg`` (or another ending of an image) and
``ImageSets/Main/<split>.txt`` with one id a line. What a hand-made data set gets wrong is mended
and counted, or left out and counted, or refused in a sentence that names the file:

======================================================  ========================================
corners in the wrong order (xmin > xmax, ymin > ymax)   swapped, counted
box partly outside the image (xmin = 0 included)        clipped, counted
box of which more than half is outside                  dropped, counted apart
box wholly outside, (0, 0, 0, 0) included               dropped, counted
all corners of a file within 0..1                       refused: relative coordinates
no ``difficult``, or an empty one                       not difficult
no ``size``, or one of zero                             the image's own
``size`` that is not the upright image's                refused: the boxes belong to another one
XML that does not parse, a missing or wrong field       refused
an image without objects                                kept, counted
no object in the whole split, and no classes given      refused
classes that differ by case or white space only         kept apart, warned of
an image whose last rows are missing                    used, counted
an image that cannot be read                            left out, listed; refused if ``strict``
======================================================  ========================================

Corners are inclusive, so xmin = xmax is a box one pixel wide and needs no repair.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detection.data.records import Dataset, ImageRecord
from detection.data.voc_folder import (
    annotation_path,
    find_voc_folder,
    helps_annotation,
    list_path,
    read_split,
)
from detection.data.voc_xml import Annotation, mend_boxes, read_annotation
from files.images import ImageFinder, UnreadableImage, cut_short, image_size
from files.names import check_class_name, folded

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)

CUT_SHORT = "image cut short, its rows read to the end"

logger = logging.getLogger(__name__)


def read_voc(
    root: str | Path,
    split: str,
    classes: Sequence[str] | None = None,
    limit: int | None = None,
    images: bool = True,
    *,
    strict: bool = False,
) -> Dataset:
    """Records of a split, in its order.

    Args:
        root: folder that holds ``Annotations``, or a ``VOCdevkit`` that holds ``VOC2007``.
        split: name of a file in ``ImageSets/Main``, without ``.txt``. A second column of -1, 0 or 1
            (VOC's per-class lists) is passed over.
        classes: class names that labels index. None: the names found in the annotations read, in
            VOC's official order if all are among its 20, else sorted.
        limit: read the first so many ids only.
        images: False looks for no image, for scoring where there are none: a record's path is
            what it would be, and its size is the annotation's, which must then give one.
        strict: an image that cannot be read is an error; otherwise it is left out.

    Returns:
        The records, boxes half-open and inside the image, the repairs by kind, each logged as one
        warning, and the images left out.

    Raises:
        FileNotFoundError: no such folder, split, annotation or image.
        ValueError: a file that cannot be used, no object at all where no classes are given, an
            object of a class not in ``classes``, or no image that can be read.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be 1 or more (or none), got {limit}")
    folder = find_voc_folder(root)
    image_ids = read_split(folder, split)[:limit]
    annotations = _read_annotations(folder, image_ids, split)
    _count_objects(annotations, split, needed=classes is None)
    known = _class_names(annotations, classes)

    finder = ImageFinder(folder / "JPEGImages")
    records: list[ImageRecord] = []
    repairs: list[tuple[str, Path]] = []
    unreadable: dict[str, str] = {}
    for image_id, annotation in zip(image_ids, annotations, strict=True):
        if images:
            path = _find(finder, image_id, list_path(folder, split))
            try:
                size, cut = image_size(path), cut_short(path)
            except UnreadableImage as error:
                if strict:
                    raise
                unreadable[image_id] = str(error)
                continue
            _check_size(annotation, path, size)
            repairs += [(CUT_SHORT, path)] if cut else []
        else:
            path, size = finder.folder / f"{image_id}.jpg", _annotated_size(annotation)
        record, mended = make_record(annotation, image_id, path, size, known)
        records.append(record)
        repairs += [(kind, annotation.path) for kind in mended.elements()]
    return Dataset(tuple(records), known, _counted(repairs, split)).without(unreadable)


def _counted(repairs: list[tuple[str, Path]], split: str) -> Counter[str]:
    """Repairs by kind, each logged as one warning that names the first file."""
    counts = Counter(kind for kind, _ in repairs)
    first = dict(reversed(repairs))
    for kind, count in counts.items():
        logger.warning("%s: %d in %s, first in %s", kind, count, split, first[kind])
    return counts


def make_record(
    annotation: Annotation,
    image_id: str,
    path: Path,
    size: tuple[int, int],
    classes: Sequence[str],
) -> tuple[ImageRecord, Counter[str]]:
    """The record of an annotation, its boxes mended, and the repairs by kind.

    Args:
        annotation: as read from its file.
        image_id: the record's name.
        path: of the record's image; not opened.
        size: (height, width) the boxes are clipped to.
        classes: names that labels index.

    Raises:
        ValueError: an object's class is not in ``classes``.
    """
    for name in annotation.names:
        if name not in classes:
            alike = [repr(other) for other in classes if folded(other) == folded(name)]
            raise ValueError(
                f"{annotation.path} has an object of class '{name}', which is none of the classes "
                f"{', '.join(classes)}" + (f"; is it {' or '.join(alike)}?" if alike else "")
            )
    boxes, kept, repairs = mend_boxes(annotation.corners, size)
    labels = np.array([classes.index(name) for name in annotation.names], np.int64)
    difficult = annotation.difficult[kept]
    return ImageRecord(image_id, path, size, boxes, labels[kept], difficult), repairs


def _read_annotations(folder: Path, image_ids: Sequence[str], split: str) -> list[Annotation]:
    annotations = []
    for image_id in image_ids:
        path = annotation_path(folder, image_id)
        try:
            annotations.append(read_annotation(path))
        except FileNotFoundError:
            helps = helps_annotation(folder, image_id, list_path(folder, split))
            raise FileNotFoundError(f"no annotation at {path}; {helps}") from None
    return annotations


def _count_objects(annotations: Sequence[Annotation], split: str, *, needed: bool) -> None:
    """Say how many images have no object.

    Raises:
        ValueError: all, and objects are needed to know the classes.
    """
    empty = [annotation.path for annotation in annotations if not annotation.names]
    if needed and len(empty) == len(annotations):
        raise ValueError(
            f"no object in the {len(annotations)} annotation files of '{split}'; expected "
            f"<object> with <name> and <bndbox>: look at {empty[0]}"
        )
    if empty:
        logger.warning(
            "images without objects: %d of %d in %s, first %s",
            *(len(empty), len(annotations), split, empty[0]),
        )


def _class_names(
    annotations: Sequence[Annotation], classes: Sequence[str] | None
) -> tuple[str, ...]:
    if classes is None:
        found = {name for annotation in annotations for name in annotation.names}
        if found <= set(VOC_CLASSES):
            return tuple(name for name in VOC_CLASSES if name in found)
        _warn_of_alike(sorted(found))
        return tuple(sorted(found))
    if not classes or len(set(classes)) < len(classes):
        raise ValueError(
            f"classes must be names without repetition, at least one; got {list(classes)}"
        )
    return tuple(check_class_name(name, "the list of classes") for name in classes)


def _warn_of_alike(names: Sequence[str]) -> None:
    """One warning of all classes that are probably another one, written otherwise."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(folded(name), []).append(name)
    groups = [" and ".join(map(repr, group)) for group in alike.values() if len(group) > 1]
    if groups:
        logger.warning(
            "classes that differ by case, white space or form of letters only are learned apart: "
            "%s; if they are one, write it in one way in the annotations",
            ", ".join(groups),
        )


def _find(finder: ImageFinder, image_id: str, listed: Path) -> Path:
    try:
        return finder.find(image_id)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; add it or take '{image_id}' out of {listed}") from None


def _annotated_size(annotation: Annotation) -> tuple[int, int]:
    if annotation.size is None:
        raise ValueError(f"{annotation.path} gives no <size>; expected one, as no image is read")
    return annotation.size


def _check_size(annotation: Annotation, path: Path, size: tuple[int, int]) -> None:
    """The upright image's size must be the annotated one."""
    if annotation.size in (None, size):
        return
    cause = "the boxes were drawn on another version of the image"
    if annotation.size == size[::-1]:
        cause = "the boxes were drawn on the image before it was turned, as by its EXIF tag"
    raise ValueError(
        f"{annotation.path} says height {annotation.size[0]}, width {annotation.size[1]}, but "
        f"{path} has height {size[0]}, width {size[1]}; {cause}: bring the two together"
    )
