"""The page of a classifier's test: accuracies, confusions, other views, and the worst images."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from classification.comparison import compare_tests
from classification.page_parts import commonest, listed_images
from classification.testing import Predictions
from detection.evaluation.reliability import calibration_error, reliability
from detection.pages.charts import curves_chart, reliability_chart
from detection.pages.page import write_page
from files.text import read_text

NAME = "report.html"
# Largest number of classes for a table of confusions.
MOST_CONFUSED = 40
# Names of losses and of accuracies in a training's events, with their labels on the page.
CURVES = (
    {"loss": "training loss", "val_loss": "loss on the validation images"},
    {"top1": "training top-1", "val_top1": "top-1 on the validation images"},
)


def write_report(
    path: str | Path,
    *,
    title: str,
    found: Predictions,
    root: Path,
    facts: Mapping[str, Any],
    tests: Mapping[str, Path],
    settings: str,
    events: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write the page of a test.

    Args:
        path: of the HTML file; replaced if it exists.
        title: the classifier and the images it was tested on.
        found: the test's predictions.
        root: folder to which the images' names are relative.
        facts: from results.json.
        tests: folders of this test and of others on the same images, by name; this test is first.
        settings: of the run, shown on the page.
        events: from the run's metrics.jsonl, for its learning curves.
    """
    right, best = found.ranks == 1, found.probabilities.max(axis=1)
    bins = reliability(best, right)
    content = {
        "title": title,
        "found": found,
        "measures": found.measures(),
        "accuracies": found.class_accuracies(),
        "confusion": found.confusion(),
        "matrix": len(found.classes) <= MOST_CONFUSED,
        "confused": confused(found),
        "views": views(tests),
        "bins": bins,
        "reliability": reliability_chart(bins),
        "error": calibration_error(best, right),
        "learning": learning_curves(events),
        "facts": facts,
        "settings": settings,
        "data": {"classes": list(found.classes), "images": worst_images(found, root)},
    }
    write_page(path, "classification_report.html.jinja", content, package="classification")


def views(tests: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Each test's results, and the others' difference from the first in top-1."""
    first, *_ = tests.values()
    facts_of = {name: json.loads(read_text(each / "results.json")) for name, each in tests.items()}
    own = facts_of[next(iter(tests))]
    rows = []
    for name, folder in tests.items():
        facts = facts_of[name]
        if any(facts.get(each) != own.get(each) for each in ("trained", "images_key")):
            continue  # a test of other images, or of an earlier classifier in this folder
        row = {"name": name} | {key: facts.get(key) for key in ("top1", "mean_class", "seconds")}
        try:
            both = [folder / "predictions.csv"], [first / "predictions.csv"]
            row["difference"] = None if folder == first else compare_tests(*both)
        except (FileNotFoundError, ValueError):
            continue
        rows.append(row)
    return rows


def confused(found: Predictions) -> list[dict[str, Any]]:
    """The most frequent confusions, by decreasing number of images."""
    confusion = found.confusion()
    totals = confusion.sum(axis=1)
    np.fill_diagonal(confusion, 0)
    return commonest(confusion, totals, confusion, found.classes)


def worst_images(found: Predictions, root: Path) -> list[dict[str, Any]]:
    """Wrong images by decreasing confidence, then correct images by increasing confidence."""
    rows = np.arange(len(found.labels))
    own, best = found.probabilities[rows, found.labels], found.probabilities.max(axis=1)
    order = np.lexsort((np.where(found.ranks == 1, own, -best), found.ranks == 1))

    def facts_of(place: int) -> dict[str, Any]:
        row = order[place]
        return {
            "id": found.images[row],
            "label": int(found.labels[row]),
            "predicted": int(found.predicted[row]),
            "probabilities": [round(float(best[row]), 3), round(float(own[row]), 3)],
            "rank": int(found.ranks[row]),
        }

    return listed_images([root / found.images[row] for row in order], facts_of)


def learning_curves(events: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Charts of losses and of top-1 by epoch; of a repeated epoch, the last values count."""
    epochs = {event["epoch"]: event for event in events if event["event"] == "epoch"}
    charts = []
    for words in CURVES:
        curves = {
            word: (
                [epoch for epoch, event in epochs.items() if name in event],
                [event[name] for event in epochs.values() if name in event],
            )
            for name, word in words.items()
        }
        if len(epochs) > 1:
            charts.append(
                curves_chart({name: curve for name, curve in curves.items() if curve[0]}, "epoch")
            )
    return charts
