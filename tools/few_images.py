"""AP by number of labelled images: trainings on random draws, one after another.

    python tools/few_images.py train --data.root FOLDER --data.lists LISTS
    python tools/few_images.py plot

``train`` trains and tests --draws times for each of --counts and puts one row per training into
--csv. Draws are random, but the same every time, from the training images. Trainings share the
cache. ``plot`` draws the table.
"""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import matplotlib.pyplot as plt
import numpy as np

from commands.cli import run_tool
from commands.tables import newest_result, rows_of
from detection.data.reading import read_dataset
from detection.evaluation.report import put_row
from detection.settings.data import Data
from files.writing import save_text

TOOLS = Path(__file__).resolve().parent
CONFIG = "configs/own_images_quick.yaml"
CSV = Path("docs/results/own_images_few.csv")
PLOT = Path("docs/results/own_images_few.png")
SAME = ("set", "config", "images", "draw")


def train(
    data: Data = Data(),  # noqa: B008 - frozen
    config: str = CONFIG,
    counts: tuple[int, ...] = (10, 25, 50, 100),
    draws: int = 3,
    runs: Path = Path("runs/few_images"),
    csv: Path = CSV,
) -> None:
    """Train on draws of the training images, test each, and put rows into the table.

    Args:
        data: the images.
        config: of the trainings.
        counts: of images; those above what there is are passed over. All images come last, once.
        draws: of each count.
        runs: folder for the runs and their lists of images.
        csv: the table.
    """
    name = Path(data.root).resolve().name
    ids = {split: ids_of(data, split) for split in ("train", "test")}
    every = len(ids["train"])
    smaller = [(count, draw) for count in counts if count < every for draw in range(draws)]
    for count, draw in [*smaller, (every, 0)]:
        run = runs / name / f"{count}_{draw}"
        lists = run.with_name(f"{run.name}_lists")
        lists_of = ids | {"train": draw_of(ids["train"], count, draw)}
        for split, images in lists_of.items():
            save_text(lists / f"{split}.txt", "\n".join(images) + "\n")
        flags = ["--data.root", data.root, "--data.lists", str(lists), "--data.cache", data.cache]
        flags += ["--data.train_split", "train", "--data.test_split", "test", "--run", str(run)]
        command("train_det", "--config", config, *flags)
        command("test_det", "--run", str(run))
        put_row(csv, row_of(name, Path(config).stem, run, draw), SAME)


def ids_of(data: Data, split: str) -> list[str]:
    """Ids of a split's images, in their order."""
    return [record.image_id for record in read_dataset(data, split).records]


def draw_of(ids: list[str], count: int, draw: int) -> list[str]:
    """So many of the ids, in their order; of one draw the smaller counts are part of the larger."""
    rows = np.random.default_rng(draw).permutation(len(ids))[:count]
    return [ids[row] for row in sorted(rows)]


def command(tool: str, *arguments: str) -> None:
    """Call a tool; what it prints is seen."""
    subprocess.run([sys.executable, str(TOOLS / f"{tool}.py"), *arguments], check=True)


def row_of(name: str, config: str, run: Path, draw: int) -> dict[str, object]:
    """The row of a tested run."""
    result = newest_result(run)
    return {
        "set": name,
        "config": config,
        "images": result["trained"]["images"],
        "draw": draw,
        "ap": round(result["map"], 4),
        "ap_area": round(result["map_area"], 4),
    }


def plot(csv: Path = CSV, out: Path = PLOT) -> None:
    """Draw AP over the number of images: a point a draw, a line of the means.

    Args:
        csv: the table.
        out: the image.
    """
    figure, axes = plt.subplots(figsize=(5, 3.6))
    rows = rows_of(csv)
    for name in dict.fromkeys(row["set"] for row in rows):
        points: dict[int, list[float]] = {}
        for row in rows:
            if row["set"] == name:
                points.setdefault(int(row["images"]), []).append(float(row["ap"]))
        means = sorted((count, float(np.mean(found))) for count, found in points.items())
        (line,) = axes.plot(*zip(*means, strict=True), label=name)
        every = [(count, ap) for count, found in points.items() for ap in found]
        axes.plot(*zip(*every, strict=True), "o", color=line.get_color(), alpha=0.6)
    axes.set(xlabel="labelled images", ylabel="AP, 11 points", ylim=(0, 1), xscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(out, dpi=120)


if __name__ == "__main__":
    run_tool({"train": train, "plot": plot})
