"""VOC result files: ``comp4_det_<split>_<class>.txt``, one per class, with one detection per line.

A line is ``image_id score xmin ymin xmax ymax``. Corners are 1-based and inside the box; a higher
score is more confident; lines may be in any order. The devkit sorts them by score and keeps the
file's order on ties, so writing and reading keep the order. An image id may have spaces: the
numbers are the last five words. Characters of a class name that a file name cannot have are written
as ``%XX``.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from detection.boxes import from_voc, to_voc
from detection.detections import Detections
from detection.evaluation.voc_ap import ClassDetections
from files.names import check_class_name, check_image_id, file_part, name_of_file_part
from files.text import read_lines
from files.writing import save_text


def comp4_path(folder: str | Path, split: str, name: str) -> Path:
    """The result file of a class."""
    return Path(folder) / f"comp4_det_{split}_{file_part(name)}.txt"


def classes_found(folder: str | Path, split: str) -> list[str]:
    """Names, sorted, of the classes with result files in a folder.

    Raises:
        ValueError: a file's name has no valid class name.
    """
    begin, end = comp4_path("", split, "\0").name.split(file_part("\0"))
    paths = Path(folder).glob("comp4_det_*")
    return sorted(
        check_class_name(name_of_file_part(path.name[len(begin) : -len(end)]), str(path))
        for path in paths
        if path.name.startswith(begin) and path.name.endswith(end)
    )


def from_images(
    detections: Mapping[str, Detections], classes: Sequence[str]
) -> dict[str, ClassDetections]:
    """Detections by class, from detections by image.

    Images are in the mapping's order, and the detections of an image keep their order.

    Args:
        detections: of each image, by its id.
        classes: names that the labels index; every class gets an entry, which may be empty.

    Raises:
        ValueError: an image's detections have other classes.
    """
    classes = tuple(classes)
    for image_id, found in detections.items():
        if found.classes != classes:
            raise ValueError(
                f"the detections of image {image_id} have the classes {found.classes}, "
                f"expected {classes}"
            )
    image_ids = list(detections)
    counts = np.array([len(found) for found in detections.values()], np.int64)
    owners = np.repeat(np.arange(len(image_ids)), counts)
    empty = Detections.empty(classes)
    parts = [empty, *detections.values()]
    labels = np.concatenate([part.labels for part in parts])
    scores = np.concatenate([part.scores for part in parts]).astype(np.float64)
    boxes = np.concatenate([part.boxes for part in parts]).astype(np.float64)
    return {
        name: ClassDetections(
            [image_ids[owner] for owner in owners[labels == label]],
            scores[labels == label],
            boxes[labels == label],
        )
        for label, name in enumerate(classes)
    }


def write_comp4(
    folder: str | Path,
    split: str,
    detections: Mapping[str, Detections],
    classes: Sequence[str],
) -> None:
    """Write the result files of all classes; a class without detections gets an empty file.

    Nothing is rounded: scores have 9 digits, enough for a float32, and corners 17, enough for a
    float64 (after VOC's 1 is added, a float32 coordinate needs more than 9). Each file is replaced
    atomically.

    Args:
        folder: created if missing.
        split: the part of the file names between ``comp4_det_`` and the class.
        detections: of each image, by its id.
        classes: names that the labels index.

    Raises:
        ValueError: an image id could not be read back from a line, a score or box is not finite, or
            an image's detections have other classes.
    """
    for image_id in detections:
        check_image_id(image_id, "a line of a result file")
    by_class = from_images(detections, classes)
    for name, found in by_class.items():
        if not (np.isfinite(found.scores).all() and np.isfinite(found.boxes).all()):
            raise ValueError(f"a detection of class {name} has a score or box that is not finite")
    for name, found in by_class.items():
        lines = [
            f"{image_id} {score:.9g} {x1:.17g} {y1:.17g} {x2:.17g} {y2:.17g}\n"
            for image_id, score, (x1, y1, x2, y2) in zip(
                found.image_ids, found.scores.tolist(), to_voc(found.boxes).tolist(), strict=True
            )
        ]
        save_text(comp4_path(folder, split, name), "".join(lines))


def read_comp4(
    folder: str | Path, split: str, classes: Sequence[str]
) -> dict[str, ClassDetections]:
    """Read the result files of all classes, of any detector; the order is kept.

    Args:
        folder: has ``comp4_det_<split>_<class>.txt`` for every class.
        split: the part of the file names between ``comp4_det_`` and the class.
        classes: the classes to read.

    Raises:
        FileNotFoundError: a class has no file (no detections are an empty file).
        ValueError: a line is not an image id and five finite numbers.
    """
    return {name: _read_file(comp4_path(folder, split, name)) for name in classes}


def _read_file(path: Path) -> ClassDetections:
    if not path.is_file():
        raise FileNotFoundError(
            f"no detections at {path}: expected one file a class, an empty one where nothing "
            "was found"
        )
    image_ids = []
    numbers = []
    for number, line in read_lines(path):
        image_id, *values = line.strip().rsplit(None, 5)
        try:
            row = [float(value) for value in values]
        except ValueError:
            row = []
        if len(row) != 5 or not all(map(math.isfinite, row)):
            raise ValueError(
                f"{path}, line {number}: expected an image id, a score and four corners, "
                f"all finite, got {line.strip()[-80:]!r}"
            )
        image_ids.append(image_id)
        numbers.append(row)
    table = np.array(numbers, dtype=np.float64).reshape(-1, 5)
    return ClassDetections(image_ids, table[:, 0].copy(), from_voc(table[:, 1:], np.float64))
