"""The tables of results as Markdown, each from the files that the tools leave."""

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from detection.evaluation.report import NO_AP
from files.text import read_text

ONE_TEST = ("features", "proposals", "train_split", "test_split", "scales")
TITLES = ("network", "features", "windows", "train", "test", "scales")
LAYERS = ("pool5", "fc6", "fc7", "fc6+fc7", "softmax")
SCALES = {"1": "one scale", "5": "five scales"}
WAYS = {"rcnn": "R-CNN", **{number: f"SPP-net, {name}" for number, name in SCALES.items()}}
# The paper's Table 9 (ZF-5, trainval, tested on VOC 2007's test), of SVMs fine-tuned but for pool5.
PAPER = {
    ("pool5", "false"): {"1": 43.0, "5": 44.9, "rcnn": 44.2},
    ("fc6", "false"): {"1": 52.3, "5": 53.7, "rcnn": 53.1},
    ("fc7", "false"): {"1": 54.5, "5": 55.2, "rcnn": 54.2},
    ("fc7", "true"): {"1": 58.0, "5": 59.2, "rcnn": 58.5},
}


def rows_of(table: Path) -> list[dict[str, str]]:
    """The rows of a CSV."""
    return list(csv.DictReader(io.StringIO(read_text(table), newline="")))


def results_of(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: the file is not JSON.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is not JSON ({error}); write it again with the tool that made it"
        ) from error


def newest_result(run: Path) -> Any:
    """The results.json of a run's newest test.

    Raises:
        FileNotFoundError: the run was not tested.
    """
    tests = sorted(run.glob("test_*/*/results.json"), key=lambda path: path.stat().st_mtime)
    if not tests:
        raise FileNotFoundError(f"no test in {run}; python tools/test_det.py --run {run} makes one")
    return results_of(tests[-1])


def markdown(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with a newline at its end."""
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def spread(values: Iterable[float]) -> str:
    """The mean to a tenth of a point; of several seeds with the lowest and highest."""
    found = sorted(values)
    if not found:
        return "-"
    mean = f"{sum(found) / len(found):.1f}"
    return mean if len(found) == 1 else f"{mean} ({found[0]:.1f} to {found[-1]:.1f})"


def best(table: Path, combination: Path) -> str:
    """The best mAP of models together and of each network, from high to low.

    Of models together those that count alike, as other weights were chosen on what is measured.
    """
    found: dict[str, tuple[float, str]] = {}
    for row in rows_of(table):
        network = row["network"]
        scores = row["layer"] + (" + bb" if row["bbox"] == "true" else "")
        how = f"{labelled(row)}, {scores}, {SCALES[row['scales']]}, windows of {row['proposals']}"
        found[network] = max(found.get(network, (0.0, "")), (float(row["map"]), how))
    for row in rows_of(combination):
        count = row["runs"].count(" + ") + 1
        weights = re.findall(r"averaged ([\d:]+)", row["runs"])
        if count > 1 and len(set("".join(weights).split(":"))) == 1:
            name = f"{count} models together"
            found[name] = max(found.get(name, (0.0, "")), (float(row["map"]), row["runs"]))
    ordered = sorted(found.items(), key=lambda each: -each[1][0])
    return markdown(
        ("network", "best mAP", "how"),
        [(name, f"{100 * value:.1f}", how) for name, (value, how) in ordered],
    )


def labelled(row: Mapping[str, str]) -> str:
    """A network in a table, with how it was trained and what a test changed."""
    parts = (
        row["network"],
        "" if row["train_from"] == "fc" else f"from {row['train_from']}",
        # Of trainings with a loss on boxes, which was removed.
        {"": "", "learned": "box layer", "ridge": "box loss"}[row["boxes"]],
        row["precision"],
        row["fc_rank"] and f"fc rank {row['fc_rank']}",
        row["vote_iou"] and f"box voting at {row['vote_iou']}",
        row["bbox_passes"] and f"boxes moved {row['bbox_passes']} times",
        row["flip"] and "mirrored too",
    )
    return ", ".join(part for part in parts if part)


def maps_of(rows: Iterable[Mapping[str, str]], **same: str) -> list[float]:
    """The mAP in per cent of the rows that have these values."""
    return [
        100 * float(row["map"])
        for row in rows
        if all(row[name] == value for name, value in same.items())
    ]


# Columns that are empty in a row of the paper's own pipeline.
CHANGED = ("boxes", "precision", "fc_rank", "vote_iou", "bbox_passes", "flip")


def paper(table: Path) -> str:
    """The paper's Table 9 from train to minival on selective search's windows, without votes.

    Layers downwards; ImageNet's convolutions as they are and trained from conv3 on, each at one
    scale and at five, and the paper's own numbers beside.
    """
    rows = rows_of(table)
    lines = []
    for layer in ("pool5", "fc6", "fc7", "fc6+fc7", "softmax"):
        for bbox in ("false", "true"):
            cells = [
                spread(
                    maps_of(
                        rows,
                        network="alexnet",
                        train_from=train_from,
                        **dict.fromkeys(CHANGED, ""),
                        features="spp",
                        proposals="selective_search",
                        train_split="train",
                        test_split="minival",
                        scales=scales,
                        layer=layer,
                        bbox=bbox,
                    )
                )
                for train_from in ("fc", "conv3")
                for scales in SCALES
            ]
            theirs = PAPER.get((layer, bbox), {})
            if theirs or set(cells) != {"-"}:
                cells += [str(theirs.get(scales, "-")) for scales in SCALES]
                lines.append([named(layer, bbox), *cells])
    titles = [f"{way}, {n}" for way in ("fc layers", "conv3 on", "paper") for n in SCALES.values()]
    return markdown(["", *titles], lines)


def named(layer: str, bbox: str) -> str:
    """What scores, in words."""
    scorer = layer if layer == "softmax" else f"{layer} SVM"
    return scorer + (" + box regression" if bbox == "true" else "")


def rcnn(table: Path) -> str:
    """SPP-net beside R-CNN where both were trained on the same images, with the paper's numbers.

    mAP without and with box regression.
    """
    found: dict[tuple[str, ...], dict[str, list[dict[str, str]]]] = {}
    for row in rows_of(table):
        same = (labelled(row), row["layer"], row["train_split"], row["test_split"])
        way = "rcnn" if row["features"] == "rcnn" else row["scales"]
        found.setdefault(same, {}).setdefault(way, []).append(row)
    lines = []
    for (network, layer, *splits), ways in found.items():
        for way in (each for each in WAYS if "rcnn" in ways and each in ways):
            ours = " / ".join(spread(maps_of(ways[way], bbox=bbox)) for bbox in ("false", "true"))
            theirs = str(PAPER.get((layer, "false"), {}).get(way, "-"))
            lines.append([WAYS[way], network, named(layer, "false"), *splits, ours, theirs])
    titles = ("features", "network", "scored by", "train", "test", "mAP, with bb", "paper")
    return markdown(titles, lines)


def tests(table: Path) -> str:
    """All rows: one for a test, a column for what scores."""
    cells: dict[tuple[str, ...], dict[tuple[str, str], list[float]]] = {}
    for row in rows_of(table):
        # R-CNN has no scales.
        row["scales"] = row["scales"] if row["features"] == "spp" else "-"
        test = (labelled(row), *(row[name] for name in ONE_TEST))
        scored = cells.setdefault(test, {})
        scored.setdefault((row["layer"], row["bbox"]), []).append(100 * float(row["map"]))
    lines = []
    for facts, scored in cells.items():
        maps = [
            " / ".join(spread(scored.get((layer, bbox), ())) for bbox in ("false", "true"))
            for layer in LAYERS
        ]
        lines.append([*facts, *("-" if each == "- / -" else each for each in maps)])
    return markdown([*TITLES, *LAYERS], lines)


def combinations(table: Path) -> str:
    """Models alone and together, the best first.

    A combination's row tells in how many of the classes with objects it is better than each of its
    models, where these have rows of their own.
    """
    rows = {row["runs"]: row for row in rows_of(table)}
    lines = []
    for runs, row in sorted(rows.items(), key=lambda each: -float(each[1]["map"])):
        models, *how = runs.split(", ")
        voting = "".join(f", {each}" for each in how if each.startswith("voting"))
        alone = [rows.get(model + voting, {}) for model in models.split(" + ")]
        gain, won = "-", "-"
        if len(alone) > 1:
            gain = f"{100 * (float(row['map']) - float(row['best_single_map'])):+.1f}"
            classes = list(row)[list(row).index("best_single_map") + 1 :]
            classes = [name for name in classes if row[name] != NO_AP]
            if all(alone):
                won = f"{sum(beats(row, alone, name) for name in classes)} of {len(classes)}"
        lines.append((runs, f"{100 * float(row['map']):.1f}", gain, won))
    return markdown(("models", "mAP", "over the best of them", "classes won"), lines)


def beats(row: Mapping[str, str], others: Iterable[Mapping[str, str]], name: str) -> bool:
    """Whether a row's average precision of a class is above that of each other row."""
    return all(float(row[name]) > float(other[name]) for other in others)
