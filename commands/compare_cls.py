"""Compare image classifiers by their tests on the same images, with a paired test.

    python tools/compare_cls.py --first "[A/test_val/full_128]" --second "[B/test_val/ten_128]"
    python tools/compare_cls.py --first "[A0,A1,A2]" --second "[B0,B1,B2]" --csv table.csv

Each side is the test of one classifier, or of several that differ only in their seed; then an image
counts by the share of classifiers that are right. The interval is a bootstrap over images; p comes
from a sign-flip test, which for two classifiers is McNemar's test.
"""

from pathlib import Path

from classification.comparison import compare_tests
from commands.cli import run_tool
from commands.tested_classifiers import (
    PREDICTIONS,
    check_same_images,
    check_seeds,
    key_of,
    names_of_sides,
    task_of,
)
from detection.evaluation.report import put_rows
from files.names import content_key
from files.writing import refuse_folders

SAME = ("task", "test", "first", "second", "settings")


def main(first: list[str], second: list[str], csv: str | None = None) -> None:
    """Compare classifiers.

    Args:
        first: folders of tests written by test_cls.py; several are seeds of one training.
        second: the same for the other side.
        csv: table to which the row is added.
    """
    refuse_folders([csv])
    (one, *_), (other, *_) = check_seeds(first), check_seeds(second)
    check_same_images(one, other, second[0])
    found = compare_tests(
        *([Path(each) / PREDICTIONS for each in side] for side in (first, second))
    )
    task, test, (name, beside) = task_of(one), one["split"], names_of_sides(one, other)
    print(f"{task} {test}: {name} ({len(first)}) less {beside} ({len(second)}): {found}")
    if csv is not None:
        row = {
            "task": task,
            "test": test,
            "first": name,
            "second": beside,
            "settings": content_key({"sides": [key_of(one), key_of(other)]})[:8],
            "seeds": f"{len(first)} {len(second)}",
            "images": found.images,
            "difference": f"{found.difference:.4f}",
            "low": f"{found.low:.4f}",
            "high": f"{found.high:.4f}",
            "p": f"{found.p:.4f}",
        }
        put_rows(csv, [row], SAME)


def run() -> None:
    """Call ``main`` with the flags of the command line."""
    run_tool(main)
