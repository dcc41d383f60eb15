"""A synthetic test of a detector; its names try to do harm in the page."""

from dataclasses import replace

import numpy as np
from PIL import Image

from detection.data.records import ImageRecord
from detection.evaluation.error_kinds import explain
from detection.evaluation.voc_ap import ClassDetections, evaluate_voc
from detection.pages.detection_report import write_report
from detection.pages.outcomes import Shown

HOSTILE = (
    "</script><script>document.title='harmed'</script>",
    '"><img src=x onerror="document.title=\'harmed\'">',
    "红绿灯 {{ 7 * 7 }} & 'cat'",
)
FACTS = {
    "command": "tools/test_det.py --run '<b>runs</b>'",
    "date": "2026-01-02",
    "ap50_pycocotools": 0.5,
    "stages": {"fine-tuning": {"seconds": 1.5, "peak_memory_mb": 300}},
    "environment": {"python": "3", "cores": 2},
}
EVENTS = [
    {"event": "begin", "stage": "fine-tuning"},
    *({"event": "fine-tuning", "step": step, "train_loss": 1 / step} for step in (10, 20, 30)),
]


def made_test(folder, classes=HOSTILE, images=30, seed=0, *, probable=True, drawn=True):
    """Return records, detections of every kind with many equal scores, and their evaluation."""
    rng = np.random.default_rng(seed)
    records, rows = [], []
    for number in range(images):
        first = rng.integers(0, 110, (rng.integers(0, 4), 2))
        boxes = np.hstack([first, first + rng.integers(20, 80, first.shape)]).astype(np.float32)
        path = folder / f"{number}.jpg"
        if drawn:
            Image.fromarray(rng.integers(0, 256, (200, 200, 3), np.uint8)).save(path)
        labels = rng.integers(0, len(classes), len(boxes))
        hard = rng.random(len(boxes)) < 0.2
        name = f"<i>{number}</i>"
        records.append(ImageRecord(name, path, (200, 200), boxes, labels, hard))
        for _ in range(rng.integers(8)):
            label = rng.integers(len(classes))
            x, y = rng.integers(0, 120, 2)
            box = np.array([x, y, x + 40, y + 40], np.float64)
            if len(boxes) and rng.random() < 0.8:
                place = rng.integers(len(boxes))
                box = boxes[place] + rng.integers(-12, 13, 4)
                label = labels[place] if rng.random() < 0.7 else label
            rows.append((label, name, rng.integers(1, 16) / 16, box))
    found = {
        name: ClassDetections(
            [row[1] for row in rows if row[0] == label],
            np.array([row[2] for row in rows if row[0] == label], np.float64),
            np.array([row[3] for row in rows if row[0] == label], np.float64).reshape(-1, 4),
        )
        for label, name in enumerate(classes)
    }
    explained = explain(found, records, classes)
    scores = explained.scores.astype(np.float32)
    if not probable:
        scores = scores * 3 - 1
        explained = replace(explained, scores=scores.astype(np.float64))
    shown = Shown.of(explained, records, scores, 0.5, probable=probable)
    return records, shown, evaluate_voc(found, records, classes)


def write_made(path, records, shown, result, **changes):
    """Write the page of a synthetic test."""
    content = {
        "title": "run <b>1</b>",
        "records": records,
        "shown": shown,
        "result": result,
        "facts": FACTS,
        "settings": {"run": "</pre>"},
        "events": EVENTS,
    }
    write_report(path, **content | changes)
