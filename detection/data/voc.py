"""Reads annotated images from a folder in VOC's layout, official or your own.

The layout is ``Annotations/<id>.xml``, ``JPEGImages/<id>.jpg`` (or another image's extension) and
``ImageSets/Main/<split>.txt`` with one id per line. Errors in hand-made data are repaired and
counted, left out and counted, or refused by an error that names the file:

======================================================  ========================================
corners in the wrong order (xmin > xmax, ymin > ymax)   swapped, counted
box partly outside the image (xmin = 0 included)        clipped, counted
box with more than half outside                         dropped, counted separately
box wholly outside, (0, 0, 0, 0) included               dropped, counted
most boxes of a file within 0..1                        refused: relative coordinates
no ``difficult``, or an empty one                       not difficult
``difficult`` is ``Unspecified``                        not difficult, counted
no ``size``, or one of zero                             the image's own size is used
``size`` that is not the upright image's                refused: boxes of another version
XML that does not parse, a missing or wrong field       refused
an image without objects                                kept, counted
no object in the whole split, and no classes given      refused
classes that differ only in case or white space         kept separate, with a warning
an image whose last rows are missing                    used, counted
an image that cannot be read                            left out, listed; refused if ``strict``
======================================================  ========================================

Corners are inclusive, so xmin = xmax is a box one pixel wide and needs no repair.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from detection.data.annotations import Annotation
from detection.data.assembly import Labelled, assemble, count_objects
from detection.data.records import Dataset
from detection.data.voc_folder import (
    annotation_path,
    find_voc_folder,
    helps_annotation,
    list_path,
    read_split,
)
from detection.data.voc_xml import read_annotation
from files.image_folders import ImageFinder
from files.names import check_class_name, folded

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)

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
        root: folder with ``Annotations``, or a ``VOCdevkit`` with ``VOC2007``.
        split: name of a file in ``ImageSets/Main``, without ``.txt``. A second column of -1, 0 or 1
            (VOC's per-class lists) is ignored.
        classes: class names that labels index. None: the names in the annotations read, in VOC's
            official order if all are among its 20, otherwise sorted.
        limit: reads only this many ids, the first ones.
        images: False needs no images, for evaluation without them. A record then has the path that
            its image would have, and the size from its annotation, which must give one.
        strict: an unreadable image is an error; otherwise it is left out.

    Returns:
        The records, with half-open boxes inside the image; the number of repairs by kind (one
        logged warning per kind); and the images left out.

    Raises:
        FileNotFoundError: no such folder, split, annotation or image.
        ValueError: a file is invalid, there is no object and no classes are given, an object has a
            class not in ``classes``, or no image can be read.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be 1 or more (or none), got {limit}")
    folder = find_voc_folder(root)
    image_ids = read_split(folder, split)[:limit]
    annotations = _read_annotations(folder, image_ids, split)
    count_objects(
        annotations, split, needed=classes is None, expected="<object> with <name> and <bndbox>"
    )
    known = class_names(annotations, classes)
    finder = ImageFinder(folder / "JPEGImages")
    listed = list_path(folder, split)
    labelled = [
        Labelled(
            image_id,
            _find(finder, image_id, listed) if images else finder.folder / f"{image_id}.jpg",
            annotation,
        )
        for image_id, annotation in zip(image_ids, annotations, strict=True)
    ]
    return assemble(labelled, split, known, images=images, strict=strict)


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


def class_names(
    annotations: Sequence[Annotation], classes: Sequence[str] | None
) -> tuple[str, ...]:
    """The given classes or, with None, those of the objects: in VOC's order if all are VOC's.

    Otherwise the objects' classes are sorted.

    Raises:
        ValueError: ``classes`` is empty, or has a repeated or invalid name.
    """
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
    """Log one warning about all classes that are probably the same, spelled differently."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(folded(name), []).append(name)
    groups = [" and ".join(map(repr, group)) for group in alike.values() if len(group) > 1]
    if groups:
        logger.warning(
            "classes that differ only in case, white space or Unicode form are learned "
            "separately: %s; if they are the same class, write its name the same way in all "
            "annotations",
            ", ".join(groups),
        )


def _find(finder: ImageFinder, image_id: str, listed: Path) -> Path:
    try:
        return finder.find(image_id)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; add it or remove '{image_id}' from {listed}") from None
