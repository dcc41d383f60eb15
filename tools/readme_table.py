"""Write the README's results table from docs/results/voc07.csv.

python tools/readme_table.py
"""

import csv
from pathlib import Path

from _cli import run_tool

from proposals.disk import save_text

START = "<!-- results: written by tools/readme_table.py -->"
END = "<!-- end of results -->"
COLUMNS = {
    "network": "network",
    "scales": "scales",
    "precision": "precision",
    "trained on": "{train_split}, {train_pictures}",
    "tested on": "{test_split}, {test_pictures}",
    "mAP": "map",
    "mAP (area)": "map_area",
    "date": "date",
}


def main(table: Path = Path("docs/results/voc07.csv"), readme: Path = Path("README.md")) -> None:
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
    """The CSV's rows as a Markdown table, newest first."""
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for row in reversed(rows):
        cells = [
            column.format(**row) if "{" in column else row[column] for column in COLUMNS.values()
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_tool(main)
