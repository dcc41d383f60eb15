"""Write the README's tables from what test_det, make_proposals and benchmark left in docs/results.

python tools/readme_table.py
"""

import csv
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from _cli import run_tool

from proposals.disk import save_text

START = "<!-- results: written by tools/readme_table.py -->"
END = "<!-- end of results -->"
# Numbers of windows whose recall is shown, beside all of them.
BUDGETS = (200, 500, 1000)
ONE_ROW = ("network", "features", "proposals", "train_split", "test_split", "scales")
TITLES = ("network", "features", "windows", "train", "test", "scales")
# Stages that are no part of training, or windows, which many trainings share.
NOT_TRAINING = ("detection", "evaluation", "windows")
LAYERS = ("pool5", "fc6", "fc7", "fc6+fc7", "softmax")


def main(
    table: Path = Path("docs/results/voc07_table.csv"),
    combination: Path = Path("docs/results/combination.csv"),
    recall: Path = Path("docs/results/proposal_recall.csv"),
    benchmark: Path = Path("docs/results/benchmark.json"),
    gpu: Path = Path("docs/results/benchmark_cuda.json"),
    readme: Path = Path("README.md"),
) -> None:
    """Replace what stands between the README's two marks.

    Args:
        table: rows written by test_det.py; the JSON files of minival beside it are its too.
        combination: rows written by combine_det.py.
        recall: rows written by make_proposals.py.
        benchmark: seconds written by benchmark.py.
        gpu: the same of a machine with a GPU, whose totals are shown beside.
        readme: the file with the marks.
    """
    text = readme.read_text()
    if START not in text or END not in text:
        raise ValueError(f"{readme} has no lines '{START}' and '{END}' to write between")
    before, rest = text.split(START)
    after = rest.split(END)[1]
    tests = sorted(table.parent.glob("voc07_minival_*.json"))
    tables = "\n".join(
        [
            best(table, combination),
            markdown(table),
            combinations(combination),
            cost(tests),
            windows(recall),
            speed(benchmark, gpu),
        ]
    )
    save_text(readme, f"{before}{START}\n{tables}{END}{after}")


def best(table: Path, combination: Path) -> str:
    """The best mAP of models together and of each network, from high to low, as Markdown."""
    found: dict[str, tuple[float, str]] = {}
    with table.open(newline="") as file:
        for row in csv.DictReader(file):
            network = re.sub(r"_(conv\d|boxes|rank\d|vote\d).*", "", row["network"])
            scores = row["layer"] + (" + bb" if row["bbox"] == "true" else "")
            where = f"at {row['scales']} scales, windows of {row['proposals']}"
            how = f"{row['network']}, {scores}, {where}"
            found[network] = max(found.get(network, (0.0, "")), (float(row["map"]), how))
    with combination.open(newline="") as file:
        several = [row for row in csv.DictReader(file) if " + " in row["runs"]]
    if several:
        row = max(several, key=lambda each: float(each["map"]))
        count = row["runs"].count(" + ") + 1
        found[f"{count} models together"] = (float(row["map"]), row["runs"])
    lines = ["| network | best mAP | how |", "|---|---|---|"]
    for name, (value, how) in sorted(found.items(), key=lambda each: -each[1][0]):
        lines.append(f"| {name} | {100 * value:.1f} | {how} |")
    return "\n".join(lines) + "\n"


def markdown(table: Path) -> str:
    """The CSV's rows as a Markdown table: a row for a test, a column for what scores (Table 9)."""
    cells: dict[tuple[str, ...], dict[tuple[str, str], list[float]]] = {}
    with table.open(newline="") as file:
        for row in csv.DictReader(file):
            # R-CNN has no scales.
            row["scales"] = row["scales"] if row["features"] == "spp" else "-"
            scored = cells.setdefault(tuple(row[name] for name in ONE_ROW), {})
            scored.setdefault((row["layer"], row["bbox"]), []).append(100 * float(row["map"]))
    lines = ["| " + " | ".join([*TITLES, *LAYERS]) + " |"]
    lines += ["|" + "---|" * (len(TITLES) + len(LAYERS))]
    for facts, scored in cells.items():
        maps = [
            " / ".join(spread(scored.get((layer, bbox), ())) for bbox in ("false", "true"))
            for layer in LAYERS
        ]
        maps = ["-" if each == "- / -" else each for each in maps]
        lines.append("| " + " | ".join([*facts, *maps]) + " |")
    return "\n".join(lines) + "\n"


def combinations(table: Path) -> str:
    """Models alone and together, the best first, as Markdown.

    A combination's row tells in how many classes it is better than each of its models, where these
    have rows of their own.
    """
    with table.open(newline="") as file:
        rows = {row["runs"]: row for row in csv.DictReader(file)}
    lines = ["| models | mAP | over the best of them | classes won |", "|---|---|---|---|"]
    for runs, row in sorted(rows.items(), key=lambda each: -float(each[1]["map"])):
        models, *how = runs.split(", ")
        voting = "".join(f", {each}" for each in how if each.startswith("voting"))
        alone = [rows.get(model + voting, {}) for model in models.split(" + ")]
        gain, won = "-", "-"
        if len(alone) > 1:
            gain = f"{100 * (float(row['map']) - float(row['best_single_map'])):+.1f}"
            classes = list(row)[list(row).index("best_single_map") + 1 :]
            if all(alone):
                won = f"{sum(beats(row, alone, name) for name in classes)} of {len(classes)}"
        lines.append(f"| {runs} | {100 * float(row['map']):.1f} | {gain} | {won} |")
    return "\n".join(lines) + "\n"


def beats(row: Mapping[str, str], others: Iterable[Mapping[str, str]], name: str) -> bool:
    """Whether a row's average precision of a class is above that of each other row."""
    return all(float(row[name]) > float(other[name]) for other in others)


def cost(tests: Iterable[Path]) -> str:
    """What tests say of time and memory, as Markdown; windows are not counted.

    A file without the test's own time, as of one that was stopped and gone on with, shows a dash.
    """
    lines = [
        "| test | mAP | training, minutes | test, seconds a picture | processes | peak GB |",
        "|---|---|---|---|---|---|",
    ]
    for path in tests:
        found = json.loads(path.read_text())
        stages = found["stages"]
        test = stages.get(f"detection at {found['scales']} scales", {})
        training = {n: one for n, one in stages.items() if not n.startswith(NOT_TRAINING)}
        cells = [
            f"[{path.stem}]({path.as_posix()})",
            f"{100 * found['map']:.1f}",
            f"{sum(one['seconds'] for one in training.values()) / 60:.0f}",
            f"{test['seconds'] / found['pictures']:.2f}" if test else "-",
            f"{test.get('workers', '-')}",
            f"{max(one['peak_memory_mb'] for one in training.values()) / 1000:.1f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def windows(recall: Path) -> str:
    """How well the first windows of each method cover objects, as Markdown: IoU 0.5 and 0.7."""
    found: dict[tuple[str, str, str], dict[int, str]] = {}
    with recall.open(newline="") as file:
        for row in csv.DictReader(file):
            counts = found.setdefault((row["method"], row["split"], row["seconds"]), {})
            counts[int(row["windows"])] = " / ".join(
                f"{float(row[name]):.3f}" for name in ("recall_50", "recall_70")
            )
    titles = [*(f"{count:,} windows" for count in BUDGETS), "all"]
    lines = ["| recall at IoU 0.5 / 0.7 | of | " + " | ".join(titles) + " | seconds |"]
    lines += ["|" + "---|" * (len(titles) + 3)]
    for (method, split, seconds), counts in found.items():
        most = max(counts)
        cells = [counts.get(count, "-") for count in BUDGETS]
        cells += [f"{most:,}: {counts[most]}", f"{float(seconds):.2f}" if seconds != "-" else "-"]
        lines.append("| " + " | ".join([method, split, *cells]) + " |")
    return "\n".join(lines) + "\n"


def speed(benchmark: Path, gpu: Path) -> str:
    """The benchmark's medians, with the totals on a GPU, and ratios as Markdown."""
    found, beside = (json.loads(path.read_text()) for path in (benchmark, gpu))
    phases = ("conv", "pool", "fc", "rest", "total")
    titles = (*phases, f"total on an {beside['environment']['cuda']}")
    lines = [f"| seconds a picture | {' | '.join(titles)} |", "|" + "---|" * (len(titles) + 1)]
    for name, seconds in found["seconds"].items():
        cells = [f"{seconds[phase]:.3f}" if phase in seconds else "-" for phase in phases]
        total = beside["seconds"].get(name, {}).get("total")
        cells.append("-" if total is None else f"{total:.3f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for name, whole in found.get("end_to_end", {}).items():
        other = beside["end_to_end"][name]
        lines.append(f"| {name}, file to boxes | - | - | - | - | {whole:.3f} | {other:.3f} |")
    lines += ["", "| times faster than R-CNN | " + " | ".join(found["ratios"]) + " |"]
    lines += ["|" + "---|" * (len(found["ratios"]) + 1)]
    for kind in (each for each in found if each.startswith("ratios")):
        cells = [f"{v:.1f}" if isinstance(v, float) else str(v) for v in found[kind].values()]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    machine = found["environment"]["processor"]
    for each, place in ((found, machine), (beside, beside["environment"]["cuda"])):
        about = f"{each['date']}, {each['pictures']} pictures, {place}"
        lines += ["", f"`{each['command']}`, {about}"]
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
