"""Write the tables of README.md and docs/RESULTS.md from what the tools left in docs/results.

python tools/result_tables.py

A table stands between the lines ``<!-- table: NAME -->`` and ``<!-- end of table -->``.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from _cli import run_tool

import _tables

from files.text import read_text
from files.writing import save_text

MARK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def main(
    results: Path = Path("docs/results"),
    pages: tuple[Path, ...] = (Path("README.md"), Path("docs/RESULTS.md")),
) -> None:
    """Replace what stands between each page's marks.

    Args:
        results: folder of voc07_table.csv and voc07_minival_*.json (test_det.py), combination.csv
            (combine_det.py), proposal_recall.csv (make_proposals.py), benchmark.json and
            benchmark_cuda.json (benchmark.py, the second on a GPU).
        pages: Markdown files with the marks.
    """
    makers = tables(results)
    for page in pages:
        save_text(page, filled(page, read_text(page), makers))


def tables(results: Path) -> dict[str, Callable[[], str]]:
    """What makes each table, by the name that stands in its mark."""
    table, combination = results / "voc07_table.csv", results / "combination.csv"
    benchmarks = results / "benchmark.json", results / "benchmark_cuda.json"
    tests = sorted(results.glob("voc07_minival_*.json"))
    return {
        "best": partial(_tables.best, table, combination),
        "paper": partial(_tables.paper, table),
        "rcnn": partial(_tables.rcnn, table),
        "tests": partial(_tables.tests, table),
        "combinations": partial(_tables.combinations, combination),
        "cost": partial(_tables.cost, tests),
        "windows": partial(_tables.windows, results / "proposal_recall.csv"),
        "seconds": partial(_tables.seconds, *benchmarks),
        "ratios": partial(_tables.ratios, benchmarks[0]),
    }


def filled(page: Path, text: str, makers: Mapping[str, Callable[[], str]]) -> str:
    """A page's text with the tables as they are now.

    Raises:
        ValueError: the page has no mark, or one of no table.
    """
    names = [name for _, name, _ in MARK.findall(text)]
    unknown = [name for name in names if name not in makers]
    if unknown or not names:
        raise ValueError(
            f"{page} needs marks such as '<!-- table: {next(iter(makers))} -->' and "
            f"'<!-- end of table -->', of the tables {', '.join(makers)}; it has {names}"
        )
    return MARK.sub(lambda found: f"{found[1]}{makers[found[2]]()}{found[3]}", text)


if __name__ == "__main__":
    run_tool(main)
