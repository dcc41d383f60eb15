"""Write the README's tables from docs/results/voc07_table.csv and benchmark.json.

python tools/readme_table.py
"""

import csv
import json
from collections.abc import Iterable
from pathlib import Path

from _cli import run_tool

from proposals.disk import save_text

START = "<!-- results: written by tools/readme_table.py -->"
END = "<!-- end of results -->"
SCALES = ("1", "5")
ONE_ROW = ("network", "features", "proposals", "train_split", "test_split", "layer", "bbox")


def main(
    table: Path = Path("docs/results/voc07_table.csv"),
    benchmark: Path = Path("docs/results/benchmark.json"),
    readme: Path = Path("README.md"),
) -> None:
    """Replace what stands between the README's two marks.

    Args:
        table: rows written by test_det.py.
        benchmark: seconds written by benchmark.py.
        readme: the file with the marks.
    """
    text = readme.read_text()
    if START not in text or END not in text:
        raise ValueError(f"{readme} has no lines '{START}' and '{END}' to write between")
    before, rest = text.split(START)
    after = rest.split(END)[1]
    save_text(readme, f"{before}{START}\n{markdown(table)}\n{speed(benchmark)}{END}{after}")


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


def speed(benchmark: Path) -> str:
    """The benchmark's medians and ratios as Markdown."""
    found = json.loads(benchmark.read_text())
    phases = ("conv", "pool", "fc", "rest", "total")
    lines = [f"| seconds a picture | {' | '.join(phases)} |", "|" + "---|" * (len(phases) + 1)]
    for name, seconds in found["seconds"].items():
        cells = [f"{seconds[phase]:.3f}" if phase in seconds else "-" for phase in phases]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "| times faster than R-CNN | " + " | ".join(found["ratios"]) + " |"]
    lines += ["|" + "---|" * (len(found["ratios"]) + 1)]
    for kind in (each for each in found if each.startswith("ratios")):
        cells = [f"{v:.1f}" if isinstance(v, float) else str(v) for v in found[kind].values()]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    machine = found["environment"]["processor"]
    lines += ["", f"`{found['command']}`, {found['date']}, {found['pictures']} pictures, {machine}"]
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
