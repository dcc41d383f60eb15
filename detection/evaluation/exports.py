"""Detections of many images as files that other programs read: COCO's JSON, CSV and YOLO's text."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detection.detections import Detections
from files.names import file_part
from files.writing import save_text

# Of an image: its detections and its size (height, width).
Found = tuple[Detections, tuple[int, int]]

CSV_COLUMNS = ("image", "class", "score", "x1", "y1", "x2", "y2")


def save_coco(path: str | Path, found: Mapping[str, Found], classes: Sequence[str]) -> None:
    """Write a file that ``pycocotools.coco.COCO`` reads; its annotations are COCO's results.

    Images are numbered from 1 in the order given, categories from 1 in the order of ``classes``.
    A box is x, y, width and height, in pixels of the upright image.

    Args:
        path: of the file, replaced whole or not at all.
        found: of each image, by the name that the file gives it.
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
    """Write a row a detection: image, class, score and half-open corners in pixels."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(CSV_COLUMNS)
    for name, (detections, _) in found.items():
        for box, label, score in detections:
            table.writerow([name, label, f"{score:.4f}", *(f"{corner:.1f}" for corner in box)])
    save_text(path, text.getvalue())


def save_yolo(folder: str | Path, found: Mapping[str, Found], classes: Sequence[str]) -> None:
    """Write a text file an image, and ``classes.txt`` with a class a line.

    A line is class number, centre x, centre y, width and height as shares of the image, and score,
    as YOLO's own predictions with confidences. Of two images that differ in their ending alone the
    second keeps its ending: ``a.txt`` and ``a.png.txt``.
    """
    files: dict[Path, str] = {}
    for name, (detections, (height, width)) in found.items():
        place = Path(folder).joinpath(*map(file_part, Path(name).with_suffix(".txt").parts))
        if place in files:
            place = place.with_name(f"{file_part(Path(name).name)}.txt")
        lines = []
        rows = zip(detections.boxes, detections.labels, detections.scores, strict=True)
        for (x1, y1, x2, y2), label, score in rows:
            centre = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height)
            numbers = (*centre, (x2 - x1) / width, (y2 - y1) / height, score)
            lines.append(f"{label} " + " ".join(f"{number:.6f}" for number in numbers) + "\n")
        files[place] = "".join(lines)
    for place, lines_of_image in files.items():
        save_text(place, lines_of_image)
    save_text(Path(folder) / "classes.txt", "".join(f"{name}\n" for name in classes))
