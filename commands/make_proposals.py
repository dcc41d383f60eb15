"""Make the windows of a split's images, keep them, and measure how well they cover the objects.

Windows in the cache are not made again; if the command is stopped, the same command resumes it.
Images that cannot be read are left out and listed at the end, with exit status 3.

    python tools/make_proposals.py --data.split trainval --workers 4
    python tools/make_proposals.py --data.split trainval --limit 300 --report
    python tools/make_proposals.py --proposals.method edge_boxes --csv table.csv --plot recall.png

``--report`` prints recall at IoU 0.5, 0.7, 0.8 and 0.9, ABO and MABO for the first 10 to 2,000
windows of each image and for all windows, and the ABO of each class; difficult objects are left
out. ``--csv FILE`` adds the same rows to a table of methods, and ``--plot FILE`` draws all methods
of that table. Seconds are processor time per image.
"""

import csv as csv_format
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from joblib import cpu_count

from commands.cli import end, run_tool, with_progress
from detection.data.reading import read_dataset
from detection.data.records import Dataset, ImageRecord
from detection.evaluation.plots import plot_recall
from detection.evaluation.report import put_rows
from detection.pool import Pool, shared_out
from detection.settings.data import Data, Split
from files.images import read_image
from files.writing import refuse_folders
from proposals import ProposalRecall, Proposals, Windows, WindowStore, proposal_recall
from proposals.imported import ImportedWindows
from proposals.methods import union

BUDGETS = (10, 20, 50, 100, 200, 500, 1000, 2000)
# Images that a method is timed on.
TIMED = 20

logger = logging.getLogger(__name__)


def main(
    data: Split = Split(split=Data.train_split),  # noqa: B008 - frozen
    proposals: Proposals = Proposals(),  # noqa: B008 - frozen
    cache: Path = Path(Data.cache),
    workers: int = 0,
    cluster: str | None = None,
    limit: int | None = None,
    report: bool = False,
    csv: Path | None = None,
    plot: Path | None = None,
) -> None:
    """Make the windows of a split, and report how well they cover its objects.

    Args:
        data: the images.
        proposals: the method and its parameters.
        cache: folder where windows are kept.
        workers: number of processes, 0 for one per core.
        cluster: address of a Dask scheduler, such as tcp://scheduler:8786; its workers replace
            this machine's processes and need images and cache at the same paths.
        limit: use only the first so many images of the split.
        report: print recall, ABO and MABO.
        csv: table to which the rows are added; created if missing.
        plot: PNG file for the recall of all methods of the table on this split.
    """
    if plot is not None and csv is None:
        raise ValueError("--plot draws the methods of a table: name the table with --csv")
    if workers < 0:
        raise ValueError(f"workers must be 0 or more, got {workers}")
    refuse_folders([csv, plot])
    dataset = read_dataset(data, data.split, limit=limit)
    pool = shared_out(workers or cpu_count(), "generator_unordered", cluster=cluster)
    stores, dataset = windows_of(proposals, dataset, cache, pool)
    if report or csv is not None:
        split = data.split + (f":{limit}" if limit else "")
        facts = {"method": label(proposals), "split": split}
        timed = None if proposals.file else seconds_of(proposals, dataset.records[:TIMED])
        results = measure(stores, dataset)
        rows = [facts | row_of(budget, result, timed) for budget, result in results.items()]
        if csv is not None:
            put_rows(csv, rows, list(facts))
        if plot is not None and csv is not None:
            plot_recall(curves(csv, split), plot, f"recall of the objects of {split}")
        if report:
            print_report(rows, list(results.values())[-1], dataset.classes)
    end(dataset.unreadable)


def windows_of(
    proposals: Proposals, dataset: Dataset, cache: Path, pool: Pool
) -> tuple[list[Windows], Dataset]:
    """Each method's windows, made where they are missing; the dataset without unreadable images."""
    stores: list[Windows] = []
    for method in proposals.parts:
        if isinstance(method, ImportedWindows):
            method.require(record.path for record in dataset.records)
            stores.append(method)
        else:
            store = WindowStore(cache, method)
            dataset = fill(store, dataset, pool)
            stores.append(store)
    return stores, dataset


def fill(store: WindowStore, dataset: Dataset, pool: Pool) -> Dataset:
    """Compute what is missing, with a progress bar, and log what was made and what reused.

    Returns:
        The dataset without the images that cannot be read.
    """
    missing = store.missing(record.path for record in dataset.records)
    reused, failed = len(dataset.records) - len(missing), {}
    if missing:
        made = store.compute(missing, pool)
        for path, failure in with_progress(made, store.method.name, len(missing)):
            if failure is not None:
                failed[path] = str(failure)
    count = len(missing) - len(failed)
    logger.info("windows of %d images made, %d reused: %s", count, reused, store.folder)
    return dataset.without(
        {each.image_id: failed[each.path] for each in dataset.records if each.path in failed}
    )


def label(proposals: Proposals) -> str:
    """The method's name, with changed parameters that the name does not show."""
    changed = [
        f"{name}={value}"
        for part in proposals.parts
        if not isinstance(part, ImportedWindows)
        for name, value in asdict(part).items()
        if value != getattr(type(part)(), name)
        and name not in ("edges", "model")
        and (name, value) != ("regions", 0)
    ]
    return " ".join([proposals.name, *changed])


def seconds_of(proposals: Proposals, records: tuple[ImageRecord, ...]) -> float:
    """Median processor time per image on one core, from the decoded image to its windows."""
    seconds = []
    for record in records:
        image = read_image(record.path)
        start = time.process_time()
        proposals(image)
        seconds.append(time.process_time() - start)
    return median(seconds)


def measure(stores: list[Windows], dataset: Dataset) -> dict[int | None, ProposalRecall]:
    """How well the first windows cover the objects that are not difficult, by number of windows.

    Numbers larger than any image's number of windows are left out; None stands for all windows.
    """
    windows = [union([store.load(each.path) for store in stores]) for each in dataset.records]
    most = max(len(each) for each in windows)
    return {
        budget: proposal_recall(
            [each[:budget] for each in windows],
            [record.boxes[~record.difficult] for record in dataset.records],
            [record.labels[~record.difficult] for record in dataset.records],
            len(dataset.classes),
        )
        for budget in (*(each for each in BUDGETS if each < most), None)
    }


def row_of(budget: int | None, result: ProposalRecall, seconds: float | None) -> dict[str, Any]:
    """Figures for a number of windows; for all windows the number is the mean."""
    return {
        "windows": budget or round(float(result.windows.mean())),
        **{f"recall_{100 * t:.0f}": f"{share:.4f}" for t, share in result.recall.items()},
        "abo": f"{result.abo_all:.4f}",
        "mabo": f"{result.mabo:.4f}",
        "seconds": "-" if seconds is None else f"{seconds:.3f}",
    }


def curves(table: Path, split: str) -> Mapping[str, dict[str, list[float]]]:
    """For each method of a table: sorted numbers of windows, and recalls at IoU 0.5 and 0.7."""
    found: dict[str, list[tuple[float, ...]]] = {}
    with table.open(newline="") as file:
        for row in csv_format.DictReader(file):
            if row["split"] == split:
                point = tuple(float(row[name]) for name in ("windows", "recall_50", "recall_70"))
                found.setdefault(row["method"], []).append(point)
    names = ("windows", "IoU 0.5", "IoU 0.7")
    return {
        method: dict(zip(names, map(list, zip(*sorted(points), strict=True)), strict=True))
        for method, points in found.items()
    }


def print_report(
    rows: list[dict[str, Any]], result: ProposalRecall, classes: tuple[str, ...]
) -> None:
    """Print the rows as a table, then the ABO of each class by all windows."""
    print(f"{rows[0]['method']}, {rows[0]['split']}: {len(result.windows)} images,", end=" ")
    print(f"{result.count} objects, {result.windows.min()} to {result.windows.max()} windows")
    columns = [name for name in rows[0] if name not in ("method", "split")]
    print("".join(f"{name:>10}" for name in columns))
    for row in rows:
        print("".join(f"{row[name]:>10}" for name in columns))
    print("\nABO by class ('-': no object)")
    for name, abo in zip(classes, result.abo, strict=True):
        print(f"{name:<13} {'-' if np.isnan(abo) else f'{abo:.4f}'}")


def run() -> None:
    """Call ``main`` with the flags of the command line."""
    run_tool(main)
