"""Train an image classifier with the spatial pyramid, on one size or many.

    python tools/train_cls.py --data.root FOLDER               # configs/imagenet_zf5.yaml
    python tools/train_cls.py --config configs/clothing_small.yaml
    torchrun --nproc_per_node 2 -- tools/train_cls.py --config configs/clothing_small.yaml --run X

FOLDER has train/CLASS/ and val/CLASS/. Writes classifier.safetensors to the run's folder; train_det
can use its trunk by --network.weights. If the training is killed, the same command resumes it and
ends with the same classifier. Images that cannot be read are left out and listed at the end, with
exit status 3. The two dashes keep torchrun from taking --run as its own flag.
"""

import logging
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from classification.config import Config
from classification.folder import LabelledImages, read_folder
from classification.leaks import find_copies
from classification.run import ClassifierRun
from classification.training import train_classifier
from commands.cli import end, log_to, run_configured, with_progress
from detection.machine import fixed_threads
from detection.ranks import joined
from files.writing import file_digest

DEFAULT_CONFIG = Path("configs/imagenet_zf5.yaml")

logger = logging.getLogger("train_cls")


def main(config: Config) -> None:
    """Train in this process, or as one of torchrun's processes."""
    run = ClassifierRun(config, " ".join(sys.argv), with_progress)
    train = read_folder(config.data.root, "train")
    val = read_folder(config.data.root, "val", train.classes)
    fixed_threads()
    with joined(run.device) as ranks:
        first = ranks.rank == 0
        with run.locked() if first else nullcontext(), ranks.parted_cores():
            if first:
                log_to(run.folder / "log.txt")
                run.describe()
                described = (len(train.names), len(val.names), len(train.classes))
                logger.info("%d images to train on, %d to test on, %d classes", *described)
                warn_of_copies(train, val)
            facts = train_classifier(config, run, ranks, train, val)
    if ranks.rank == 0:
        report(run, facts)
        end(facts["skipped"])


def warn_of_copies(train: LabelledImages, val: LabelledImages) -> None:
    """Warn if test images are copies of training images."""
    copies = find_copies(train, val)
    if copies is None:
        logger.info("the data set is too large to look for copies of training images in val")
    elif copies:
        logger.warning(
            "%d of %d images in val are copies of images in train, such as %s of %s; a test on "
            "copies says nothing: remove them from train or val",
            *(len(copies), len(val.names), copies[0][1], copies[0][0]),
        )


def report(run: ClassifierRun, facts: dict[str, Any]) -> None:
    """Print the accuracy on centre crops, and the classifier's file."""
    tested = facts["tested"]
    words = {"top1": "top-1", "top5": "top-5"}
    shares = (f"{words[name]} {100 * tested[name]:.2f} %" for name in words if name in tested)
    print(f"val: {', '.join(shares)}")
    print(f"classifier {run.classifier_path} sha256 {file_digest(run.classifier_path)}")


def run() -> None:
    """Call ``main`` with the flags of the command line."""
    run_configured(main, Config, DEFAULT_CONFIG)
