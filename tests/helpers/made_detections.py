"""Records and detections from rows of numbers."""

from pathlib import Path

import numpy as np

from detection.boxes import from_voc
from detection.data.records import ImageRecord
from detection.evaluation.voc_ap import (
    ClassDetections,
)

NO_DETECTIONS = ClassDetections([], np.zeros(0), np.zeros((0, 4)))


def make_record(image_id, objects, classes=("cat",), size=(200, 200)):
    """Return a record from rows (class, difficult, xmin, ymin, xmax, ymax), 1-based inclusive."""
    return ImageRecord(
        image_id,
        Path(f"{image_id}.jpg"),
        size,
        from_voc(np.array([row[2:] for row in objects]).reshape(-1, 4)),
        np.array([classes.index(row[0]) for row in objects], dtype=np.int64),
        np.array([bool(row[1]) for row in objects], dtype=bool),
    )


def make_detections(rows):
    """Return ClassDetections from rows (image id, score, xmin, ymin, xmax, ymax)."""
    return ClassDetections(
        [row[0] for row in rows],
        np.array([row[1] for row in rows], dtype=np.float64),
        from_voc(np.array([row[2:] for row in rows]), np.float64),
    )
