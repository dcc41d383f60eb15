"""Writes detections of many images for other programs: COCO's JSON, CSV and YOLO's text files."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

from detection.detections import Detections
from files.text import read_text
from files.writing import save_text

# An image's detections and its size (height, width).
Found = tuple[Detections, tuple[int, int]]

CLASSES_FILE = "classes.txt"
# Fields of a line: class, box and score. Hand-made labels have no score.
LINE_FIELDS = 6
CSV_COLUMNS = ("image", "class", "score", "x1", "y1", "x2", "y2")


def save_coco(path: str | Path, found: Mapping[str, Found], classes: Sequence[str]) -> None:
    """Write a file for ``pycocotools.coco.COCO``; its annotations have the form of COCO's results.

    Images are numbered from 1 in the given order, categories from 1 in the order of ``classes``.
    A box is x, y, width and height, in pixels of the upright image.

    Args:
        path: of the file; replaced atomically.
        found: of each image, by its name in the file.
        classes: names of the K classes.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (name, (detections, (height, width))) in enumerate(found.items(), start=1):
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        rows = zip(detections.boxes, detections.labels, detections.scores, strict=True)
        for box, label, score in rows:
            x1, y1, x2, y2 = map(float, box)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(label) + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                    "score": float(score),
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
    whole = {"images": images, "categories": categories, "annotations": annotations}
    save_text(path, json.dumps(whole, ensure_ascii=False))


def save_csv(path: str | Path, found: Mapping[str, Found]) -> None:
    """Write one row per detection: image, class, score and half-open corners in pixels."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(CSV_COLUMNS)
    for name, (detections, _) in found.items():
        for box, label, score in detections:
            table.writerow([name, label, f"{score:.4f}", *(f"{corner:.1f}" for corner in box)])
    save_text(path, text.getvalue())


def label_files(images: Mapping[Path, Path], folder: str | Path) -> dict[Path, Path]:
    """The file of each image's YOLO labels: its name in the folder, with the extension .txt.

    If two images differ only in their extension, the second keeps it: ``a.txt`` and ``a.png.txt``.
    If two images have the same name, the second gets a number.

    Args:
        images: for each image, its name below the folder.
        folder: of the labels and of ``classes.txt``.
    """
    files: dict[Path, Path] = {}
    taken = {CLASSES_FILE}
    for image, name in images.items():
        names = chain(
            (name.with_suffix(".txt"), name.with_name(f"{name.name}.txt")),
            (name.with_name(f"{name.name}_{number}.txt") for number in count(2)),
        )
        free = next(each for each in names if str(each).casefold() not in taken)
        taken.add(str(free).casefold())  # some file systems ignore case
        files[image] = Path(folder) / free
    return files


def refuse_labels(files: Iterable[Path], folder: str | Path, classes: Sequence[str]) -> None:
    """Refuse to replace labels that ``save_yolo`` did not write, such as hand-made labels.

    Raises:
        ValueError: a file has lines without a score, or the folder's classes differ.
    """
    for path in files:
        lines = read_text(path).splitlines() if path.is_file() else []
        if any(len(line.split()) != LINE_FIELDS for line in lines):
            raise ValueError(
                f"{path} holds labels without scores, so it was not written by a detector; name "
                "another folder for the detections"
            )
    path = Path(folder) / CLASSES_FILE
    if path.is_file() and read_text(path).splitlines() != [*classes]:
        raise ValueError(
            f"{path} has other classes than {', '.join(classes)}; name another folder for the "
            "detections"
        )


def save_yolo(folder: str | Path, found: Mapping[Path, Found], classes: Sequence[str]) -> None:
    """Write one text file per image, and ``classes.txt`` with one class per line.

    A line is class number, centre x, centre y, width and height, relative to the image, and score,
    like YOLO's own predictions with confidences.

    Args:
        folder: of ``classes.txt``.
        found: of each image, by the file of its labels (``label_files``).
        classes: names of the K classes.
    """
    for path, (detections, (height, width)) in found.items():
        lines = []
        rows = zip(detections.boxes, detections.labels, detections.scores, strict=True)
        for (x1, y1, x2, y2), label, score in rows:
            centre = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height)
            numbers = (*centre, (x2 - x1) / width, (y2 - y1) / height, score)
            lines.append(f"{label} " + " ".join(f"{number:.6f}" for number in numbers) + "\n")
        save_text(path, "".join(lines))
    save_text(Path(folder) / CLASSES_FILE, "".join(f"{name}\n" for name in classes))
