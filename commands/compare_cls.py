"""Compare image classifiers by their tests on the same images, with a paired test.

    python tools/compare_cls.py --first "[A/test_val/full_128]" --second "[B/test_val/ten_128]"
    python tools/compare_cls.py --first "[A0,A1,A2]" --second "[B0,B1,B2]" --csv table.csv

Each side is the test of one classifier, or of several that differ in their seed: an image then
counts by the share of them that are right. The interval is a bootstrap over images; p is from a
sign-flip test, which for two classifiers is McNemar's.
"""

import json
from pathlib import Path
from typing import Any

from classification.comparison import compare_tests
from commands.cli import run_tool
from commands.test_cls import PREDICTIONS, features_of
from detection.evaluation.report import put_rows
from files.text import read_text

SAME = ("task", "test", "first", "second")


def main(first: list[str], second: list[str], csv: str | None = None) -> None:
    """Compare classifiers.

    Args:
        first: folders of tests, as test_cls.py leaves them; of seeds of one training.
        second: the same of the other side.
        csv: table to put the row into.
    """
    found = compare_tests(
        *([Path(each) / PREDICTIONS for each in side] for side in (first, second))
    )
    (task, test, one), (_, _, other) = named(first), named(second)
    print(f"{task} {test}: {one} ({len(first)}) less {other} ({len(second)}): {found}")
    if csv is not None:
        row = {
            "task": task,
            "test": test,
            "first": one,
            "second": other,
            "seeds": f"{len(first)} {len(second)}",
            "images": found.images,
            "difference": f"{found.difference:.4f}",
            "low": f"{found.low:.4f}",
            "high": f"{found.high:.4f}",
            "p": f"{found.p:.4f}",
        }
        put_rows(csv, [row], SAME)


def named(folders: list[str]) -> tuple[str, str, str]:
    """Task, split and what was tested, of tests that differ in their seed alone.

    Raises:
        ValueError: they differ in more.
    """
    names = []
    for folder in folders:
        facts: dict[str, Any] = json.loads(read_text(Path(folder) / "results.json"))
        what = f"{features_of(facts)}; {facts['views']} {facts['size']}"
        names.append((Path(facts["root"]).name, facts["split"], what))
    if len(set(names)) > 1:
        raise ValueError(
            f"{folders[0]} and the others of its side differ in more than their seed: "
            f"{'; '.join(sorted({name[2] for name in names}))}"
        )
    return names[0]


def run() -> None:
    """Call ``main`` with the flags of the command line."""
    run_tool(main)
