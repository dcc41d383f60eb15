"""Make and keep the windows of a split's pictures, and say how well they cover its objects.

What the cache already holds is not made again; a run that was stopped goes on where it was.

    python tools/make_proposals.py --data.split trainval --workers 4
    python tools/make_proposals.py --data.split trainval --limit 300 --report

``--report`` prints windows a picture, recall at IoU 0.5, 0.7 and 0.8, ABO, MABO and the ABO of each
class, over the objects that are not difficult; ``--csv FILE`` adds the same as one row to a table.
Seconds are processor time of one core, measured on the pictures made by this call.
"""

import logging
from csv import DictWriter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _cli import run_tool, with_progress
from jsonargparse import ArgumentParser

from detection.data.records import Dataset
from detection.data.voc import read_voc
from proposals import ProposalRecall, SelectiveSearch, WindowStore, proposal_recall

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Data:
    """Which pictures.

    Attributes:
        root: the VOC2007 folder, or the folder above it.
        split: name of a list in ImageSets/Main.
    """

    root: Path = Path("data/VOCdevkit")
    split: str = "trainval"


def main(
    data: Data = Data(),
    proposals: SelectiveSearch = SelectiveSearch(),  # noqa: B008 - frozen
    cache: Path = Path("data/cache"),
    workers: int = 1,
    limit: int | None = None,
    report: bool = False,
    csv: Path | None = None,
) -> None:
    """Make the windows of a split, and report how well they cover its objects.

    Args:
        data: which pictures.
        proposals: selective search and its parameters.
        cache: folder the windows are kept under.
        workers: number of processes.
        limit: only the first so many pictures of the split.
        report: print recall, ABO and MABO.
        csv: table to add a row to; made with its header if missing.
    """
    dataset = read_voc(data.root, data.split, limit=limit)
    store = WindowStore(cache, proposals)
    fill(store, [record.path for record in dataset.records], workers)
    if not report and csv is None:
        return
    result = measure(store, dataset)
    if csv is not None:
        append_row(csv, row_of(store, data.split, result))
    if report:
        print_report(row_of(store, data.split, result), result, dataset.classes)


def fill(store: WindowStore, pictures: list[Path], workers: int) -> None:
    """Compute what is missing, with a progress bar, and log what was made and what reused."""
    missing = store.missing(pictures)
    reused = len(pictures) - len(missing)
    if missing:
        for _ in with_progress(store.compute(missing, workers), "windows", len(missing)):
            pass
    logger.info("windows of %d pictures made, %d reused: %s", len(missing), reused, store.folder)


def measure(store: WindowStore, dataset: Dataset) -> ProposalRecall:
    """How well the store's windows cover the objects of a dataset that are not difficult."""
    return proposal_recall(
        [store.load(record.path) for record in dataset.records],
        [record.boxes[~record.difficult] for record in dataset.records],
        [record.labels[~record.difficult] for record in dataset.records],
        len(dataset.classes),
    )


def row_of(store: WindowStore, split: str, result: ProposalRecall) -> dict[str, str]:
    """One line of the table: parameters, then figures; seconds '-' when nothing was made."""
    assert isinstance(store.method, SelectiveSearch)
    parameters = asdict(store.method)
    return {
        **{name: "-" if value is None else str(value) for name, value in parameters.items()},
        "split": split,
        "pictures": str(len(result.windows)),
        "objects": str(result.count),
        "windows": f"{result.windows.mean():.0f}",
        "windows_min": str(result.windows.min()),
        "windows_max": str(result.windows.max()),
        **{f"recall_{100 * t:.0f}": f"{share:.4f}" for t, share in result.recall.items()},
        "abo": f"{result.abo_all:.4f}",
        "mabo": f"{result.mabo:.4f}",
        "seconds": f"{np.mean(list(store.seconds.values())):.2f}" if store.seconds else "-",
    }


def append_row(path: Path, row: dict[str, str]) -> None:
    """Add a row to a CSV file of the same columns.

    Raises:
        ValueError: the file begins with other columns.
    """
    header = ",".join(row)
    found = path.read_text(encoding="utf-8").partition("\n")[0] if path.is_file() else ""
    if found and found != header:
        raise ValueError(f"{path} has the columns {found}; expected {header}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = DictWriter(file, list(row), lineterminator="\n")
        if not found:
            writer.writeheader()
        writer.writerow(row)


def print_report(row: dict[str, str], result: ProposalRecall, classes: tuple[str, ...]) -> None:
    """Print the row, one figure a line, then the ABO of each class."""
    for name, value in row.items():
        print(f"{name:<13} {value}")
    print("\nABO by class ('-': no object)")
    for name, abo in zip(classes, result.abo, strict=True):
        print(f"{name:<13} {'-' if np.isnan(abo) else f'{abo:.4f}'}")


class Parser(ArgumentParser):
    """Takes ``--report`` alone for ``--report true``."""

    def add_argument(self, *names: Any, **options: Any) -> Any:
        """Add an argument; the value of a bool may be left out."""
        if options.get("type") is bool:
            options |= {"nargs": "?", "const": True}
        return super().add_argument(*names, **options)


if __name__ == "__main__":
    run_tool(main, parser_class=Parser)
