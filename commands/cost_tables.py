"""The tables of time, memory and windows, and of the shipped detector, as Markdown."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from commands.tables import markdown, results_of, rows_of
from files.writing import file_digest

# Numbers of windows whose recall is shown, beside all of them.
BUDGETS = (200, 500, 1000)
# Stages that are no part of training, or windows, which many trainings share.
NOT_TRAINING = ("detection", "evaluation", "windows")
# Of tools/benchmark.py: which R-CNN is compared with which SPP-net.
RATIOS = {
    "ratios_like_for_like": "like for like: float32, no shortcuts",
    "ratios_same_precision": "both bfloat16",
    "ratios_whole_fc": "SPP-net bfloat16, R-CNN float32",
    "ratios": "SPP-net bfloat16, fc6 of rank 256; R-CNN float32",
    "ratios_paper": "the paper, on a GPU",
}
# Of a processor without bfloat16 instructions, where all methods are in float32.
FLOAT32_RATIOS = {
    "ratios_like_for_like": "like for like",
    "ratios": "fc6 of rank 256",
}


def cost(found: Iterable[Path]) -> str:
    """What tests say of time and memory; windows are not counted.

    A file without the test's own time, as of one that was stopped and gone on with, shows a dash.
    """
    lines = []
    for path in found:
        result = results_of(path)
        stages = result["stages"]
        test = result["detection"] or {}
        training = [one for name, one in stages.items() if not name.startswith(NOT_TRAINING)]
        lines.append(
            (
                f"[{path.stem}](results/{path.name})",
                f"{100 * result['map']:.1f}",
                f"{sum(one['seconds'] for one in training) / 60:.0f}",
                f"{test['seconds'] / test['images']:.2f}" if test else "-",
                f"{test.get('workers', '-')}",
                f"{max(one['peak_memory_mb'] for one in training) / 1000:.1f}",
            )
        )
    titles = ("training, minutes", "test, seconds an image", "processes", "peak GB")
    return markdown(("test", "mAP", *titles), lines)


def windows(recall: Path) -> str:
    """How well the first windows of each method cover objects: IoU 0.5 and 0.7."""
    found: dict[tuple[str, str, str], dict[int, str]] = {}
    for row in rows_of(recall):
        counts = found.setdefault((row["method"], row["split"], row["seconds"]), {})
        counts[int(row["windows"])] = " / ".join(
            f"{float(row[name]):.3f}" for name in ("recall_50", "recall_70")
        )
    lines = []
    for (method, split, one), counts in found.items():
        most = max(counts)
        cells = [counts.get(count, "-") for count in BUDGETS]
        cells += [f"{most:,}: {counts[most]}", f"{float(one):.2f}" if one != "-" else "-"]
        lines.append([method, split, *cells])
    budgets = [f"{count:,} windows" for count in BUDGETS]
    return markdown(["recall at IoU 0.5 / 0.7", "of", *budgets, "all", "seconds"], lines)


def seconds(benchmark: Path, gpu: Path) -> str:
    """The benchmark's medians, with the totals on a GPU, and the commands that made both."""
    found, beside = results_of(benchmark), results_of(gpu)
    phases = ("conv", "pool", "fc", "rest", "total")
    lines = []
    for name, parts in found["seconds"].items():
        total = beside["seconds"].get(name, {}).get("total")
        cells = [f"{parts[phase]:.3f}" if phase in parts else "-" for phase in phases]
        lines.append([name, *cells, "-" if total is None else f"{total:.3f}"])
    for name, whole in found.get("end_to_end", {}).items():
        other = f"{beside['end_to_end'][name]:.3f}"
        lines.append([f"{name}, file to boxes", *"----", f"{whole:.3f}", other])
    on_gpu = f"total on an {beside['environment']['cuda']}"
    text = markdown(("seconds an image", *phases, on_gpu), lines)
    machine = found["environment"]["processor"]
    for each, place in ((found, machine), (beside, beside["environment"]["cuda"])):
        about = f"{each['date']}, {each['images']} images, {place}"
        text += f"\n`{each['command']}`, {about}\n"
    return text


def ratios(benchmark: Path, laptop: Path) -> str:
    """How many times faster than R-CNN, like for like first, then without bfloat16."""
    found, other = results_of(benchmark), results_of(laptop)
    named = [(words, found[kind]) for kind, words in RATIOS.items() if kind in found]
    named[-1:-1] = [
        (f"no bfloat16 instructions: {words}", other[kind])
        for kind, words in FLOAT32_RATIOS.items()
    ]
    lines = [
        [words, *(f"{v:.1f}" if isinstance(v, float) else str(v) for v in each.values())]
        for words, each in named
    ]
    parts = [
        name.replace("conv_", "convolutions, ").replace("total_", "in all, ")
        for name in found["ratios"]
    ]
    return markdown(("times faster than R-CNN", *(part.replace("_", " ") for part in parts)), lines)


def shipped(detector: Path, five: Path, one: Path) -> str:
    """The shipped detector: its file, and class by class what a test at five and at one scale says.

    Calibration errors are of all detections, and of those of a probability above 0.5.
    """
    tested = [results_of(path) for path in (five, one)]
    lines = []
    for name, at_five in tested[0]["per_class"].items():
        believed = tested[0]["calibration"]["per_class"][name]
        aps = [f"{100 * each['per_class'][name]['ap']:.1f}" for each in tested]
        lines.append([name, *aps, str(at_five["npos"]), *errors_of(believed)])
    means = [f"{100 * each['map']:.1f}" for each in tested]
    objects = sum(each["npos"] for each in tested[0]["per_class"].values())
    lines.append(["all classes", *means, str(objects), *errors_of(tested[0]["calibration"])])
    titles = ("AP, five scales", "AP, one scale", "objects", "calibration error", "of those shown")
    size = detector.stat().st_size / 1e6
    about = f"{size:.1f} MB, SHA-256 `{file_digest(detector)}`"
    text = f"`{detector.name}`: {about}\n\n" + markdown(("class", *titles, "shown"), lines)
    for each in tested:
        place = each["environment"]["processor"]
        text += f"\n`{each['command']}`, {each['date']}, {each['images']} images, {place}\n"
    return text


def errors_of(believed: Mapping[str, Any]) -> list[str]:
    """Calibration errors of a class or of all, and how many detections are shown."""
    return [f"{believed['error']:.3f}", f"{believed['error_shown']:.3f}", str(believed["shown"])]
