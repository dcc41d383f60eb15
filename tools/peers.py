"""Faster R-CNN on the same images, cores and minutes as a training of ours; ours beside it.

    python tools/peers.py theirs --data.root FOLDER --network resnet50_caffe --minutes 10
    python tools/peers.py ours --run runs/mine
    python tools/peers.py plot

``theirs`` fine-tunes torchvision's Faster R-CNN with a feature pyramid from the same ImageNet
convolutions, until the minutes are over, and tests it by the same metric. ``ours`` reads what a
run's training took and what its test found. Both put a row into --csv; ``plot`` draws the table.
"""

import sys
import time
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import matplotlib.pyplot as plt
import torch
from faster_rcnn import faster_rcnn, fine_tune, tested

from commands.cli import run_tool
from commands.tables import newest_result, rows_of
from detection.data.reading import read_dataset
from detection.evaluation.report import put_row
from detection.events import stage_seconds
from detection.machine import fixed_threads, peak_memory_mb
from detection.networks.build import build_backbone
from detection.settings.data import Data

CSV = Path("docs/results/own_images_peers.csv")
PLOT = Path("docs/results/own_images_peers.png")
SAME = ("set", "method", "minutes_allowed", "images", "seed")
# Stages of a run that are no part of its training.
TESTING = ("detection", "evaluation", "windows of test")


def theirs(
    data: Data = Data(),  # noqa: B008 - frozen
    network: Literal["resnet50_caffe", "efficientnet_lite0"] = "efficientnet_lite0",
    weights: str = "auto",
    minutes: float = 10.0,
    batch: int = 2,
    learning_rate: float = 0.005,
    seed: int = 0,
    csv: Path = CSV,
) -> None:
    """Fine-tune Faster R-CNN for so many minutes, test it, and put a row into the table.

    Args:
        data: the images, as of a training.
        network: its convolutions.
        weights: of these, as --network.weights of a training.
        minutes: of training, from the first image on.
        batch: images a step.
        learning_rate: the highest; it rises over the first tenth of the time and falls to 0 by the
            last, as a cosine.
        seed: of the heads and the images' order.
        csv: the table.
    """
    fixed_threads()
    torch.manual_seed(seed)
    train = read_dataset(data, "train")
    test = read_dataset(data, "test", classes=train.classes)
    model = faster_rcnn(build_backbone(network, weights), len(train.classes))
    steps = fine_tune(model, train, minutes, batch, learning_rate, seed)
    start = time.perf_counter()
    result = tested(model, test)
    row = {
        "set": Path(data.root).resolve().name,
        "method": f"Faster R-CNN, {network}",
        "minutes_allowed": f"{minutes:g}",
        "images": len(train.records),
        "seed": seed,
        "minutes": f"{minutes:.1f}",
        "ap": round(result.map, 4),
        "ap_area": round(result.map_area, 4),
        "test_seconds_an_image": round((time.perf_counter() - start) / len(test.records), 2),
        "peak_memory_mb": peak_memory_mb(),
    }
    put_row(csv, row, SAME)
    print(f"{steps} steps; AP {result.map:.4f}, area {result.map_area:.4f}")


def ours(run: Path, method: str = "SPP-net", minutes: float = 10.0, csv: Path = CSV) -> None:
    """Put a row of a run's training and newest test into the table.

    Args:
        run: folder of the run, tested.
        method: its name in the table.
        minutes: that it was allowed.
        csv: the table.
    """
    stages = stage_seconds(run)
    seconds = [one["seconds"] for name, one in stages.items() if not name.startswith(TESTING)]
    result = newest_result(run)
    row = {
        "set": Path(result["data"]["root"]).resolve().name,
        "method": method,
        "minutes_allowed": f"{minutes:g}",
        "images": result["trained"]["images"],
        "seed": result["trained"]["seed"],
        "minutes": f"{sum(seconds) / 60:.1f}",
        "ap": round(result["map"], 4),
        "ap_area": round(result["map_area"], 4),
        "test_seconds_an_image": round(result["detection"]["seconds"] / result["images"], 2),
        "peak_memory_mb": max(one["peak_memory_mb"] for one in stages.values()),
    }
    put_row(csv, row, SAME)
    print(", ".join(f"{name} {value}" for name, value in row.items()))


def plot(csv: Path = CSV, out: Path = PLOT) -> None:
    """Draw AP against minutes, a panel a set, a line a method.

    Args:
        csv: the table.
        out: the image.
    """
    rows = [row for row in rows_of(csv) if row["minutes_allowed"] != "-"]
    sets = list(dict.fromkeys(row["set"] for row in rows))
    figure, panels = plt.subplots(1, len(sets), figsize=(4.5 * len(sets), 3.6), squeeze=False)
    for name, axes in zip(sets, panels[0], strict=True):
        for method in dict.fromkeys(row["method"] for row in rows if row["set"] == name):
            mine = [row for row in rows if (row["set"], row["method"]) == (name, method)]
            points = sorted((float(row["minutes"]), float(row["ap"])) for row in mine)
            axes.plot(*zip(*points, strict=True), marker="o", label=method)
        axes.set(title=name, xlabel="minutes of training", ylabel="AP", ylim=(0, 1), xscale="log")
        axes.set_xticks((3, 5, 10, 30), ("3", "5", "10", "30"))
        axes.set_xticks((), minor=True)
        axes.grid(alpha=0.3)
    panels[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(out, dpi=120)


if __name__ == "__main__":
    run_tool({"theirs": theirs, "ours": ours, "plot": plot})
