"""The page of a detection test: numbers, curves, kinds of error, images, and the settings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from detection.data.records import ImageRecord
from detection.detections import Detections
from detection.evaluation.average_precision import VOCResult
from detection.evaluation.comp4 import from_images
from detection.evaluation.error_kinds import ERRORS, Kind, explain, gains
from detection.evaluation.report import classes_of_mean
from detection.inference.detector import SPPDetector
from detection.pages.charts import (
    PANEL,
    curves_chart,
    precision_recall_chart,
    reliability_chart,
)
from detection.pages.gallery import gallery_data
from detection.pages.outcomes import SIZES, Shown
from detection.pages.page import write_page

NAME = "report.html"
# Largest number of curves, and largest number of classes for a table of confusions.
MOST_CURVES = 60
MOST_CONFUSED = 30
KINDS = {
    Kind.PLACE: ("badly placed", "overlaps an object of its class by less than half (0.1 to 0.5)"),
    Kind.CLASS: ("wrong class", "overlaps an object of another class well"),
    Kind.BOTH: ("wrong class, badly placed", "overlaps an object of another class by 0.1 to 0.5"),
    Kind.DUPLICATE: ("duplicate", "on an object that a detection with a higher score has found"),
    Kind.BACKGROUND: ("background", "on no object"),
}
MISSED = ("missed", "an object without a detection; for the gain, without a wrong one on it either")


def write_report(
    path: str | Path,
    *,
    title: str,
    records: Sequence[ImageRecord],
    shown: Shown,
    result: VOCResult,
    facts: Mapping[str, Any],
    settings: Mapping[str, Any],
    events: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write the page of a test.

    Args:
        path: of the HTML file; replaced if it exists.
        title: the detector and the images it was tested on.
        records: every image of the split.
        shown: its detections with their kinds.
        result: from ``evaluate_voc``, for the same detections.
        facts: from results.json: command, date, ``stages``, ``environment``,
            ``ap50_pycocotools``.
        settings: of the run, shown on the page.
        events: from the run's metrics.jsonl, for its learning curves.
    """
    kinds = kinds_table(gains(shown.explained))
    reliable = shown.reliability
    content = {
        "title": title,
        "result": result,
        "mean_over": classes_of_mean(result) if result.without_objects else None,
        "images": len(records),
        "shown": shown,
        "best": shown.best_threshold(),
        "curves": curves(result),
        "panel": PANEL,
        "kinds": kinds,
        "worth": worth_mending(kinds, len(result.classes)),
        "size_names": size_names(shown),
        "matrix": len(result.classes) <= MOST_CONFUSED,
        "reliability": reliable,
        "reliability_chart": reliability_chart(reliable["bins"]) if reliable else None,
        "learning": learning_curves(events),
        "facts": facts,
        "settings": yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True),
        "data": shown.script_data() | {"images": gallery_data(shown, records)},
    }
    write_page(path, "detection_report.html.jinja", content)


def shown_by(
    detector: SPPDetector, records: Sequence[ImageRecord], found: Mapping[str, Detections]
) -> Shown:
    """Detections by image id with their kinds, and the scores and threshold displayed."""
    explained = explain(from_images(found, detector.classes), records, detector.classes)
    return Shown.of(
        explained,
        records,
        detector.shown_scores(explained.scores, explained.labels),
        detector.display_threshold,
        probable=detector.shows_probabilities,
    )


def curves(result: VOCResult) -> list[dict[str, Any]]:
    """Each class's chart; of more than MOST_CURVES classes, those with the lowest AP."""
    names = [name for name in result.classes if result.per_class[name].npos]
    if len(names) > MOST_CURVES:
        names = sorted(names, key=lambda name: result.per_class[name].ap or 0.0)[:MOST_CURVES]
    return [
        {
            "label": result.classes.index(name),
            "name": name,
            "ap": result.per_class[name].ap,
            "chart": precision_recall_chart(result.per_class[name]),
        }
        for name in names
    ]


def kinds_table(gained: Mapping[str, NDArray]) -> list[dict[str, Any]]:
    """A row for each kind of error and for missed objects: description, and gain if corrected."""
    rows = [{"kind": int(kind), "name": KINDS[kind][0], "text": KINDS[kind][1]} for kind in ERRORS]
    rows.append({"kind": "missed", "name": MISSED[0], "text": MISSED[1]})
    keys = [*(kind.name.lower() for kind in ERRORS), "missed"]
    return [
        row | {"gain": float(np.nanmean(gained[key])), "gains": gained[key].tolist()}
        for row, key in zip(rows, keys, strict=True)
    ]


def worth_mending(kinds: Sequence[Mapping[str, Any]], classes: int) -> list[Mapping[str, Any]]:
    """For each class, the kind of error with the largest gain if corrected."""
    return [max(kinds, key=lambda row: row["gains"][label]) for label in range(classes)]


def size_names(shown: Shown) -> list[str]:
    """The names of the sizes of boxes, with their bounds."""
    low, high = (f"{100 * bound:.2g} %" for bound in shown.bounds)
    ranges = (f"up to {low} of the image", f"{low} to {high}", f"above {high}")
    return [f"{name} ({range_})" for name, range_ in zip(SIZES, ranges, strict=True)]


def learning_curves(events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Charts of the losses of fine-tuning, one for each of its stages.

    If a training was resumed or restarted, its steps replace the earlier ones from there on.
    """
    stages: dict[str, dict[int, Mapping[str, Any]]] = {}
    stage = "fine-tuning"
    for event in events:
        if event["event"] == "begin":
            stage = event["stage"]
        elif event["event"] == "fine-tuning":
            before = stages.get(stage, {})
            kept = {step: one for step, one in before.items() if step < event["step"]}
            stages[stage] = kept | {event["step"]: event}
    return [
        {"stage": stage, "chart": curves_chart(_losses(list(steps.values())), "step")}
        for stage, steps in stages.items()
        if len(steps) > 1
    ]


def _losses(phase: Sequence[Mapping[str, Any]]) -> dict[str, tuple[list[float], list[float]]]:
    names = {
        "train_loss": "training loss",
        "held_back_loss": "loss on images held back",
        "held_back_error": "error on images held back",
        "held_back_object_error": "error on their objects",
    }
    return {
        words: (
            [one["step"] for one in phase if name in one],
            [one[name] for one in phase if name in one],
        )
        for name, words in names.items()
        if any(name in one for one in phase)
    }
