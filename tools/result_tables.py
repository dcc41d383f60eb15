"""Write the tables of README.md and docs/ from what the tools left in docs/results.

python tools/result_tables.py

A table stands between the lines ``<!-- table: NAME -->`` and ``<!-- end of table -->``.
"""

import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from commands import classification_tables, cost_tables, own_images_tables, tables
from commands.cli import run_tool
from detection.inference.detector_file import SHIPPED
from files.text import read_text
from files.writing import save_text

PAGES = tuple(map(Path, ("README.md", "docs/RESULTS.md", "docs/voc07.md", "docs/own-images.md")))
MARK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def main(
    results: Path = Path("docs/results"),
    pages: tuple[Path, ...] = PAGES,
) -> None:
    """Replace what stands between each page's marks.

    Args:
        results: folder of voc07_table.csv and voc07_minival_*.json (test_det.py), combination.csv
            (combine_det.py), proposal_recall.csv (make_proposals.py), benchmark.json,
            benchmark_float32.json and benchmark_cuda.json (benchmark.py, the second on a processor
            without bfloat16, the third on a GPU), classification.csv (transfer_cls.py,
            test_cls.py), classification_differences.csv (compare_cls.py),
            shipped_voc07_*.json (test_det.py of the shipped detector), own_images_*.csv (peers.py,
            few_images.py).
        pages: Markdown files with the marks.
    """
    makers = makers_of(results)
    for page in pages:
        save_text(page, filled(page, read_text(page), makers))


def makers_of(results: Path) -> dict[str, Callable[[], str]]:
    """What makes each table, by the name that stands in its mark."""
    table, combination = results / "voc07_table.csv", results / "combination.csv"
    benchmarks = results / "benchmark.json", results / "benchmark_cuda.json"
    tests = sorted(results.glob("voc07_minival_*.json"))
    classes = results / "classification.csv"
    paired = results / "classification_differences.csv"
    shipped = [results / f"shipped_voc07_{scales}.json" for scales in ("5scales", "1scale")]
    return {
        "best": partial(tables.best, table, combination),
        "paper": partial(tables.paper, table),
        "rcnn": partial(tables.rcnn, table),
        "tests": partial(tables.tests, table),
        "combinations": partial(tables.combinations, combination),
        "cost": partial(cost_tables.cost, tests),
        "windows": partial(cost_tables.windows, results / "proposal_recall.csv"),
        "seconds": partial(cost_tables.seconds, *benchmarks),
        "shipped": partial(cost_tables.shipped, SHIPPED / "voc07.safetensors", *shipped),
        "ratios": partial(cost_tables.ratios, benchmarks[0], results / "benchmark_float32.json"),
        "voc07_cls": partial(classification_tables.transfer, classes, "voc07"),
        "voc07_short": partial(classification_tables.transfer, classes, "voc07", ["pool5_pyramid"]),
        "caltech101": partial(classification_tables.transfer, classes, "caltech101"),
        "scratch": partial(classification_tables.scratch, classes, "clothing15"),
        "speed_cls": partial(classification_tables.speed, results / "benchmark_cls.json"),
        "own": partial(own_images_tables.own, results / "own_images_peers.csv"),
        "own_float32": partial(own_images_tables.own, results / "own_images_float32.csv"),
        "peers": partial(own_images_tables.peers, results / "own_images_peers.csv"),
        "few": partial(own_images_tables.few, results / "own_images_few.csv"),
        "differences": partial(classification_tables.differences, paired, "clothing15"),
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
