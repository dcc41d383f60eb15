"""The page of fixed features: results of each layer and view, by class, and the worst images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from classification.page_parts import commonest, listed_images
from classification.transfer.judged import JudgedImages
from classification.transfer.task import Outcome, Task
from classification.transfer.view import View
from detection.pages.page import write_page


@dataclass(frozen=True)
class Measured:
    """The result of one layer and view.

    Attributes:
        layer: of the network.
        view: of the images.
        outcome: the results.
        before: the previous view, if there is one.
        gains: over the previous view, from ``Task.gain``.
    """

    layer: str
    view: View
    outcome: Outcome
    before: View | None = None
    gains: Mapping[str, float] = field(default_factory=dict)

    def named_gains(self) -> dict[str, float]:
        """The gains by their names in tables, such as ``mAP - crop-224 low``."""
        name = next(iter(self.outcome.metrics))
        return {f"{name} - {self.before}{end}": value for end, value in self.gains.items()}

    def __str__(self) -> str:
        return f"{self.layer} {self.view}"


def write_transfer_report(
    path: str | Path,
    *,
    title: str,
    task: Task,
    measured: Sequence[Measured],
    facts: Mapping[str, Any],
    settings: str,
) -> None:
    """Write the page of one network's layers and views.

    The images shown are those of the layer and view with the best first metric.

    Args:
        path: of the HTML file; replaced if it exists.
        title: task and network.
        task: with the images.
        measured: at least one layer and view, in the order of measurement.
        facts: command and environment.
        settings: shown on the page.
    """
    metric = next(iter(measured[0].outcome.metrics))
    best = max(measured, key=lambda one: one.outcome.metrics[metric])
    judged = best.outcome.judged
    content = {
        "title": title,
        "metric": metric,
        "measured": measured,
        "best": best,
        "images": len(judged.rows),
        "unreadable": len(task.unreadable),
        "classes": task.classes,
        "of_class": [[_or_none(value) for value in one.outcome.of_class] for one in measured],
        "confused": confused(judged, task.classes),
        "facts": facts,
        "settings": settings,
        "data": {"classes": list(task.classes), "images": worst_images(judged, task.paths)},
    }
    write_page(path, "transfer_report.html.jinja", content, package="classification")


def confused(judged: JudgedImages, classes: Sequence[str]) -> list[dict[str, Any]]:
    """The most frequent confusions, by decreasing share of a class's images."""
    confusion, totals = judged.confusion(), (judged.labels > 0).sum(axis=0)
    return commonest(confusion, totals, confusion / np.maximum(totals, 1)[:, None], classes)


def worst_images(judged: JudgedImages, paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Images for the page's script, by decreasing number of mistakes."""
    order = judged.worst_first()
    of_place = [paths[judged.rows[row]] for row in order]

    def facts_of(place: int) -> dict[str, Any]:
        row, path = order[place], of_place[place]
        return {
            "id": f"{path.parent.name}/{path.name}",
            "labels": np.flatnonzero(judged.labels[row] > 0).tolist(),
            "wrong": np.flatnonzero(judged.wrong[row]).tolist(),
            "missed": np.flatnonzero(judged.missed[row]).tolist(),
            "scores": judged.scores[row].astype(float).round(2).tolist(),
        }

    return listed_images(of_place, facts_of)


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
