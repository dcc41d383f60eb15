"""What each stage of a run cost an image, and what it would cost on more images and workers.

    python tools/scaling_table.py --runs [runs/one] --images [2500,118000] --workers [1,10,100]

The runs were made with --workers 1, so that the seconds of a stage are those of its work. The model
is that of docs/scaling.md, whose tables this prints: what is shared out takes its seconds divided
by the workers, but never less than what one process does meanwhile. A third table has the peak
memory of each run after each stage.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from commands.cli import run_tool
from detection.events import read_events, stage_seconds
from detection.training.mining.search import BLOCK

# Beginnings of the names of stages whose images are shared out.
SHARED = ("windows of", "training windows", "SVMs", "detection")
# Stages whose seconds do not depend on the number of images.
FIXED = ("fine-tuning", "evaluation")


@dataclass(frozen=True)
class Cost:
    """Seconds of a stage.

    Attributes:
        name: of the stage.
        shared: of work that any worker can do, an image.
        serial: of work that one process does beside it, an image.
        fixed: of work that one process does, whatever the images.
        most: workers that can be at it at a time; None for any number.
    """

    name: str
    shared: float = 0.0
    serial: float = 0.0
    fixed: float = 0.0
    most: int | None = None

    def seconds(self, images: int, workers: int) -> float:
        """Of so many images by so many workers; one has nothing beside it."""
        shared, serial = images * self.shared, images * self.serial
        if workers == 1:
            return self.fixed + shared + serial
        return self.fixed + max(shared / min(workers, self.most or workers), serial)


def main(
    runs: tuple[Path, ...],
    images: tuple[int, ...] = (2500, 118_000, 1_281_167),
    workers: tuple[int, ...] = (1, 2, 10, 100, 1000),
) -> None:
    """Print the measured costs, the predicted hours and the memory, in Markdown.

    Args:
        runs: folders of runs made with one worker; of a stage the last one counts.
        images: numbers of images to predict for.
        workers: numbers of workers to predict for.
    """
    costs = {cost.name: cost for run in runs for cost in costs_of(run)}
    tables = (measured(costs.values()), predicted([*costs.values()], images, workers), memory(runs))
    print("\n\n".join("\n".join(table) for table in tables))


def costs_of(run: Path) -> list[Cost]:
    """The costs of a run's stages.

    Raises:
        ValueError: the run has no stages, or one was shared out to several workers.
    """
    stages = stage_seconds(run)
    if not stages:
        raise ValueError(f"{run} has no stages: name a folder that tools/train_det.py wrote")
    refits = sum(event["seconds"] for event in read_events(run) if event["event"] == "svm")
    known = max((int(one["images"]) for one in stages.values() if "images" in one), default=0)
    costs = []
    for name, one in stages.items():
        seconds, count = one["seconds"], int(one.get("images", known))
        if name.startswith(FIXED) or not count:
            costs.append(Cost(name, fixed=seconds))
        elif not name.startswith(SHARED):
            costs.append(Cost(name, serial=seconds / count))
        elif one.get("workers", 1) != 1:
            raise ValueError(
                f"'{name}' of {run} was done by {one['workers']} workers, whose seconds are not "
                "those of its work; train with --workers 1"
            )
        else:
            mining = name == "SVMs"
            serial = refits if mining else 0.0
            shared = max(seconds - serial, 0.0)
            most = BLOCK if mining else None
            costs.append(Cost(name, shared / count, serial / count, most=most))
    return costs


def measured(costs: Iterable[Cost]) -> list[str]:
    """A row a stage."""
    head = ["| stage | distributed, s an image | in one process, s an image | fixed, s |"]
    return [*head, "|---|---|---|---|"] + [
        f"| {cost.name} | {cost.shared:.3f} | {cost.serial:.3f} | {cost.fixed:.0f} |"
        for cost in costs
    ]


def predicted(costs: Sequence[Cost], images: Sequence[int], workers: Sequence[int]) -> list[str]:
    """A row for each number of images and workers: hours in all, and the longest stage."""
    lines = ["| images | workers | hours | longest stage | its share |", "|---|---|---|---|---|"]
    for count in images:
        for many in workers:
            seconds = {cost.name: cost.seconds(count, many) for cost in costs}
            whole, longest = sum(seconds.values()), max(seconds, key=lambda name: seconds[name])
            share = f"{seconds[longest] / whole:.0%}" if whole else "-"
            lines.append(f"| {count:,} | {many:,} | {whole / 3600:.2f} | {longest} | {share} |")
    return lines


def memory(runs: Sequence[Path]) -> list[str]:
    """A row a stage: peak memory in MB of the largest process so far, a column for each run."""
    stages = [stage_seconds(run) for run in runs]
    names = dict.fromkeys(name for each in stages for name in each)
    lines = [f"| stage | {' | '.join(run.name for run in runs)} |", "|---" * (len(runs) + 1) + "|"]
    for name in names:
        peaks = (each.get(name, {}).get("peak_memory_mb") for each in stages)
        cells = " | ".join("-" if peak is None else f"{peak:,}" for peak in peaks)
        lines.append(f"| {name} | {cells} |")
    return lines


if __name__ == "__main__":
    run_tool(main)
