"""VOC result files: ``comp4_det_<split>_<class>.txt``, one a class, one detection a line.

A line is ``image_id score xmin ymin xmax ymax``: corners 1-based and inside the box, higher scores
surer, lines in any order. The devkit sorts them by score and keeps the file's order on ties, so
order is kept on writing and on reading. An image id may hold spaces: the numbers are the last five
words. What no file name may hold is written as ``%XX`` in the class's part of it.
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
    """Names of the classes that a folder has result files of, sorted.

    Raises:
        ValueError: a file's name holds what cannot be the name of a class.
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

    Images follow one another in the mapping's order, and those of an image keep theirs.

    Args:
        detections: of each image, by its id.
        classes: names that the labels point into; every one gets an entry, perhaps an empty one.

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

    Nothing is rounded: scores carry the 9 digits that fix a float32, corners the 17 that fix a
    float64 (adding VOC's 1 to a float32 coordinate needs more than 9). Each file is replaced whole.

    Args:
        folder: made if missing.
        split: the part of the file names between ``comp4_det_`` and the class.
        detections: of each image, by its id.
        classes: names that the labels point into.

    Raises:
        ValueError: an image id that cannot be read back from a line, a score or box that is not
            finite, or an image's detections that have other classes.
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
    """Read the result files of all classes, from whatever system they come; order is kept.

    Args:
        folder: holds ``comp4_det_<split>_<class>.txt`` for every class.
        split: the part of the file names between ``comp4_det_`` and the class.
        classes: the classes to read.

    Raises:
        FileNotFoundError: a class has no file; an empty file says that nothing was found.
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
