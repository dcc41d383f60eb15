"""Compare two detectors by their tests on the same images: did the change help, and where?

    python tools/compare_det.py runs/a/test_test_5scales/fc7+bb runs/b/test_test_5scales/fc7+bb

The folders are written by tools/test_det.py and tools/combine_det.py. The command prints the AP of
each class, the gain of the second detector and its bootstrap interval over images; the last line is
the mAP. A page shows the objects that one detector finds and the other misses; it goes to --out, or
to the second folder.
"""

import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from commands.cli import WordsParser, run_tool
from commands.tested_runs import RESULTS
from detection.data.reading import read_dataset
from detection.data.records import Dataset
from detection.evaluation.comp4 import read_comp4
from detection.evaluation.comparison import compare, format_comparison
from detection.machine import environment
from detection.pages.comparison_report import counts_found, write_comparison
from detection.pages.outcomes import Shown
from detection.settings.data import Split
from files.text import read_text

PAGE = "comparison.html"


@dataclass(frozen=True)
class Tested:
    """A finished test.

    Attributes:
        folder: folder of its results.
        facts: from its results.json: ``classes``, ``images``, ``unreadable``, ``limit``.
        split: where the images are.
    """

    folder: Path
    facts: dict[str, Any]
    split: Split

    @property
    def dataset(self) -> Dataset:
        """The images that the test saw, in its order.

        Raises:
            FileNotFoundError, ValueError: as ``read_dataset``.
            ValueError: there are more of them now, or fewer.
        """
        kept = self.folder.absolute().parent.parent
        found = read_dataset(
            self.split,
            self.split.split,
            classes=self.facts["classes"],
            limit=self.facts["limit"],
            kept=kept if (kept / "lists").is_dir() else None,
        )
        left_out = set(self.facts["unreadable"])
        records = [record for record in found.records if record.image_id not in left_out]
        if len(records) != self.facts["images"]:
            raise ValueError(
                f"{self.folder} is a test of {self.facts['images']} images, but {self.split.root} "
                f"has {len(records)} that can be read in '{self.split.split}' now; test again"
            )
        return replace(found, records=tuple(records))


def main(tests: list[str], out: Path | None = None) -> None:
    """Compare two tests; the last line is the mAP.

    Args:
        tests: folders of the first test and of the second.
        out: file for the page; by default comparison.html in the second folder.
    """
    if len(tests) != 2:
        raise ValueError(f"a comparison needs the folders of two tests, got {len(tests)}")
    first, second = (tested(Path(word)) for word in tests)
    data = first.dataset
    check_same(first, second, data)
    one, other = (seen(test, data) for test in (first, second))
    found = compare(one.explained, other.explained, len(data.records))
    page = out or second.folder / PAGE
    facts = {
        "date": time.strftime("%Y-%m-%d"),
        "command": " ".join(sys.argv),
        "environment": environment(),
    }
    write_comparison(page, (tests[0], tests[1]), data.records, (one, other), found, facts)
    both, alone, gained, neither = counts_found(one, other).sum(axis=0)
    print(f"first {tests[0]}, second {tests[1]}, {len(data.records)} images")
    print(
        f"of {both + alone + gained + neither} objects both find {both}, only the first {alone}, "
        f"only the second {gained}, neither {neither}"
    )
    print(f"open {page} in a browser to see them")
    print(format_comparison(found))


def tested(folder: Path) -> Tested:
    """The test whose results lie in a folder.

    Raises:
        FileNotFoundError: there are none.
        ValueError: its results.json does not say where the images are.
    """
    path = folder / RESULTS
    if not path.is_file():
        inner = [str(each.parent) for each in sorted(folder.glob(f"test_*/*/{RESULTS}"))]
        raise FileNotFoundError(
            f"no test in {folder}: expected a folder with {RESULTS}, written by tools/test_det.py"
            + (f", such as {inner[0]}" if inner else "")
        )
    try:
        facts = json.loads(read_text(path))
        split = Split(**facts["data"])
        facts = {name: facts[name] for name in ("classes", "images", "unreadable", "limit")}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} does not name its images and classes ({error!r}); run the test again: if its "
            "scores are still there, it takes seconds"
        ) from error
    return Tested(folder, facts, split)


def check_same(first: Tested, second: Tested, data: Dataset) -> None:
    """Make sure that two tests are of the same images and classes.

    Raises:
        ValueError: they are not.
    """
    if set(first.facts["classes"]) != set(second.facts["classes"]):
        raise ValueError(
            f"{first.folder} and {second.folder} are tests of different classes: "
            f"{', '.join(first.facts['classes'])}; {', '.join(second.facts['classes'])}"
        )
    images = [{record.image_id for record in each.records} for each in (data, second.dataset)]
    if images[0] != images[1]:
        raise ValueError(
            f"{first.folder} and {second.folder} are tests of different images: "
            f"{len(images[0] ^ images[1])} are only in one of them; compare tests of the same split"
        )


def seen(test: Tested, data: Dataset) -> Shown:
    """A test's detections by their raw scores, above its threshold of highest F1."""
    found = read_comp4(test.folder, test.split.split, data.classes)
    return Shown.raw(found, data.records, data.classes)


def run() -> None:
    """Call ``main`` with the flags of the command line."""
    run_tool(main, parser_class=WordsParser)
