"""The tables of the classification half as Markdown, from docs/results/classification*.csv."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from commands.tables import markdown, rows_of

# Measures that a row's test is summed up by.
MEASURES = {"voc07": "mAP", "caltech101": "class accuracy"}
VIEWS = ("centre", "ten", "full", "multi", "multi+full")
# The paper's Table 6 (ZF-5, trainval to test): pool5 6x6 on three views.
PAPER = {
    "voc07": ("paper, ZF-5, pool5 6x6", {"crop 224": 68.8, "full 224": 70.8, "full 392": 71.7}),
    "caltech101": (
        "paper, ZF-5, pool5 pyramid",
        {"crop 224": 89.5, "full 224": 91.4, "warp 224": 89.9},
    ),
}


def transfer(table: Path, task: str, features: Sequence[str] = ()) -> str:
    """A task's results by a fixed network's features: a line a network and layer, a column a view.

    Args:
        table: classification.csv.
        task: of its rows.
        features: the layers that are shown; without any, all.
    """
    rows = [
        row
        for row in rows_of(table)
        if row["task"] == task
        and (not features or row["features"] in features)
        and row["metric"] == MEASURES[task]
        and row["value"] != "-"
    ]
    found: dict[tuple[str, str], dict[str, float]] = {}
    more = told_apart(rows, ("network", "features"), ("train", "test", "seed", "settings"))
    for row, words in zip(rows, more, strict=True):
        layer = row["features"].replace("_", " ") + words
        line = found.setdefault((row["network"], layer), {})
        line[f"{row['view']} {row['size']}"] = 100 * float(row["value"])
    views = sorted({view for line in found.values() for view in line})
    lines = [[*names, *cells(line, views)] for names, line in found.items()]
    if lines:
        words, numbers = PAPER[task]
        lines.append([words, "", *cells(numbers, views)])
    return markdown(("network", "features", *views), lines)


def told_apart(
    rows: Sequence[Mapping[str, str]], named_by: Sequence[str], columns: Sequence[str]
) -> list[str]:
    """What to add to each row's words where other rows have the same: the columns that differ.

    Args:
        rows: of a table; those from before there was a column are as if it were empty.
        named_by: columns that a row's words are made of.
        columns: that may differ.
    """
    alike: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    for row in rows:
        alike.setdefault(tuple(row[name] for name in named_by), []).append(row)
    more = []
    for row in rows:
        others = alike[tuple(row[name] for name in named_by)]
        unlike = (name for name in columns if len({each.get(name, "") for each in others}) > 1)
        more.append("".join(f", {name} {row[name]}" for name in unlike if row.get(name)))
    return more


def cells(line: dict[str, float], views: Sequence[str]) -> list[str]:
    """One number a view."""
    return [f"{line[view]:.1f}" if view in line else "-" for view in views]


def scratch(table: Path, task: str) -> str:
    """Top-1 of classifiers trained from scratch: a line a training, a column a view.

    Mean over seeds, with their range.

    Args:
        table: classification.csv.
        task: of its rows.
    """
    rows = [row for row in rows_of(table) if row["task"] == task and row["metric"] == "top1"]
    found: dict[str, dict[str, list[float]]] = {}
    more = told_apart(rows, ("features",), ("network", "train", "test", "settings"))
    for row, words in zip(rows, more, strict=True):
        line = found.setdefault(row["features"] + words, {})
        line.setdefault(row["view"], []).append(100 * float(row["value"]))
    views = [view for view in VIEWS if any(view in line for line in found.values())]
    lines = [
        [features, *(spread(line[view]) if view in line else "-" for view in views)]
        for features, line in found.items()
    ]
    return markdown(("training", *views), lines)


def spread(values: Sequence[float]) -> str:
    """A mean and its range."""
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def differences(table: Path, task: str) -> str:
    """Paired comparisons in points of top-1, a line each.

    Args:
        table: classification_differences.csv, put there by compare_cls.py.
        task: of its rows.
    """
    rows = [row for row in rows_of(table) if row["task"] == task]
    lines = []
    more = told_apart(rows, ("first", "second"), ("test", "settings"))
    for row, words in zip(rows, more, strict=True):
        gain, low, high = (100 * float(row[name]) for name in ("difference", "low", "high"))
        interval = f"{gain:+.1f} ({low:+.1f} to {high:+.1f})"
        lines.append([row["first"] + words, row["second"], interval, row["p"]])
    return markdown(("training; view", "beside", "top-1, 95 %", "p"), lines)


def speed(result: Path) -> str:
    """What tools/benchmark_cls.py left: trainings beside torchvision's loop, views from maps.

    Args:
        result: its JSON file.
    """
    found = json.loads(result.read_text())
    rates, views = found["images_per_second"], found["views"]
    lines = [
        (
            f"training, {epoch}: images/s",
            f"{rates['ours'][epoch]:.1f}",
            f"torchvision's loop: {rates['torchvision'][epoch]:.1f}",
            f"{rates['ours'][epoch] / rates['torchvision'][epoch]:.2f}",
        )
        for epoch in ("first epoch", "other epochs")
    ]
    lines += [
        (
            "96 views from maps: s an image",
            f"{views['maps']:.3f}",
            f"96 {name}: {views[name]:.3f}",
            f"{views['maps'] / views[name]:.2f}",
        )
        for name in ("crops together", "crops one by one")
    ]
    return markdown(("", "ours", "beside", "ratio"), lines)
