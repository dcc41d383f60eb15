"""Write the README's results table from docs/results/voc07_table.csv.

python tools/readme_table.py
"""

import csv
from collections.abc import Iterable
from pathlib import Path

from _cli import run_tool

from proposals.disk import save_text

START = "<!-- results: written by tools/readme_table.py -->"
END = "<!-- end of results -->"
SCALES = ("1", "5")
ONE_ROW = ("network", "features", "proposals", "train_split", "test_split", "layer", "bbox")


def main(
    table: Path = Path("docs/results/voc07_table.csv"), readme: Path = Path("README.md")
) -> None:
    """Replace what stands between the README's two marks.

    Args:
        table: rows written by test_det.py.
        readme: the file with the marks.
    """
    text = readme.read_text()
    if START not in text or END not in text:
        raise ValueError(f"{readme} has no lines '{START}' and '{END}' to write between")
    before, rest = text.split(START)
    after = rest.split(END)[1]
    save_text(readme, f"{before}{START}\n{markdown(table)}{END}{after}")


def markdown(table: Path) -> str:
    """The CSV's rows as a Markdown table like the paper's Table 9: scales side by side."""
    cells: dict[tuple[str, ...], dict[str, list[float]]] = {}
    with table.open(newline="") as file:
        for row in csv.DictReader(file):
            scales = cells.setdefault(tuple(row[name] for name in ONE_ROW), {})
            # R-CNN has no scales of its own: one number, in the column of one scale.
            scale = row["scales"] if row["features"] == "spp" else "1"
            scales.setdefault(scale, []).append(100 * float(row["map"]))
    lines = [
        "| network | features | proposals | train | test | scored by | 1 scale | 5 scales |",
        "|" + "---|" * 8,
    ]
    for (*facts, layer, bbox), scales in cells.items():
        scored = f"{layer}{'' if layer == 'softmax' else ' SVM'}{' + bb' if bbox == 'true' else ''}"
        maps = [spread(scales.get(scale, ())) for scale in SCALES]
        lines.append("| " + " | ".join([*facts, scored, *maps]) + " |")
    return "\n".join(lines) + "\n"


def spread(values: Iterable[float]) -> str:
    """The mean to a tenth of a point; of several seeds with the lowest and highest."""
    found = sorted(values)
    if not found:
        return "-"
    mean = f"{sum(found) / len(found):.1f}"
    return mean if len(found) == 1 else f"{mean} ({found[0]:.1f} to {found[-1]:.1f})"


if __name__ == "__main__":
    run_tool(main)
