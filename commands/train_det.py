"""Train an SPP-net detector: windows, fine-tuning, SVMs with hard negatives, box regression.

    python tools/train_det.py                                  # configs/voc07_alexnet.yaml
    python tools/train_det.py --config configs/quickstart.yaml
    torchrun --nproc_per_node 2 -- tools/train_det.py --config configs/quickstart.yaml --run X

Writes detector.safetensors to the run's folder. If the training is killed, the same command resumes
it and ends with the same detector. Images that cannot be read are left out and listed at the end,
with exit status 3. torchrun distributes fine-tuning; the two dashes keep it from taking --run as
its own flag.
"""

import logging
import sys

from commands.cli import end, log_to, run_configured, with_progress
from commands.dispatch import command_of
from detection.config import Config
from detection.data.reading import read_dataset
from detection.evaluation.report import format_stages
from detection.events import stage_seconds
from detection.machine import fixed_threads
from detection.pages.detection_report import NAME
from detection.ranks import rank_of_process
from detection.run import Run
from detection.training.labels import check_classes, few_objects
from detection.training.pipeline import train_detector
from detection.training.time_left import expected_seconds, remember
from files.writing import file_digest

logger = logging.getLogger("train_det")


def main(config: Config) -> None:
    """Run every stage in the paper's order, and print the time of each."""
    first = rank_of_process() == 0
    command = " ".join(sys.argv)
    run = Run(config, command, with_progress) if first else Run(config, command, told=False)
    if not first:
        logging.disable(logging.INFO)
    fixed_threads()
    split = config.data.train_split
    data = read_dataset(
        config.data, split, limit=config.limit, strict=config.strict, kept=run.folder
    )
    check_classes(data, split, difficult=config.data.difficult)
    if not first:
        train_detector(run, data)
        return
    with run.locked():
        log_to(run.folder / "log.txt")
        run.describe()
        described = (len(data.records), split, " ".join(data.classes))
        logger.info("%d images of %s, classes: %s", *described)
        if few := few_objects(data, difficult=config.data.difficult):
            named = ", ".join(f"{name} {count}" for name, count in few.items())
            logger.warning("classes with few objects (expect low accuracy): %s", named)
        run.expected = expected_seconds(run.cache, config, len(data.records))
        data = train_detector(run, data)
        stages = stages_of(run)
        each = {name: {"images": len(data.records)} | one for name, one in stages.items()}
        remember(run.cache, config, each)
        report(run, stages, len(data.records))
    end(data.unreadable)


def stages_of(run: Run) -> dict[str, dict[str, float]]:
    """Time of each stage of the training, without the stages of tests in the same folder."""
    elsewhere = ("detection", "evaluation", f"windows of {run.config.data.test_split}")
    stages = stage_seconds(run.folder)
    return {name: one for name, one in stages.items() if not name.startswith(elsewhere)}


def report(run: Run, stages: dict[str, dict[str, float]], images: int) -> None:
    """Print the time of each stage, the detector, and the next command."""
    print(format_stages(stages, images))
    print(f"detector {run.detector_path} sha256 {file_digest(run.detector_path)}")
    page = run.folder / NAME
    if page.exists():
        print(f"open {page} in a browser to see the learning curve, and errors in held-back images")
    print("next:", *command_of("test_det"), "--run", run.config.run)


def run() -> None:
    """Call ``main`` with the flags of the command line."""
    run_configured(main)
