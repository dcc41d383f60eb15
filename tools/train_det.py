"""Train an SPP-net detector: windows, fine-tuning, SVMs with hard negatives, box regression.

    python tools/train_det.py                                  # configs/voc07_alexnet.yaml
    python tools/train_det.py --config configs/quickstart.yaml

Leaves detector.safetensors in the run's folder. A second call does what is missing; killed anywhere
and started again, it ends with the same detector. Images that cannot be read are left out and
listed at the end, with exit status 3.
"""

import logging
import sys

from _cli import end, run_configured, with_progress

from detection.config import Config
from detection.data.records import Dataset
from detection.data.voc import read_voc
from detection.data.windows import find_windows
from detection.evaluation.report import format_stages
from detection.inference.detector import SPPDetector
from detection.machine import fixed_threads
from detection.networks.weights import load_weights
from detection.run import Run, log_to, stage_seconds
from detection.training import linear_stages, stages
from detection.training.box_layer import regressor_of
from detection.training.finetune_stage import finetune_stage
from detection.training.labels import check_classes
from files.writing import file_digest

logger = logging.getLogger("train_det")


def main(config: Config) -> None:
    """Run every stage in the paper's order and save the detector."""
    run = Run(config, " ".join(sys.argv), with_progress)
    fixed_threads()
    data = read_voc(
        config.data.root, config.data.train_split, limit=config.limit, strict=config.strict
    )
    check_classes(data, config.data.train_split, difficult=config.data.difficult)
    with run.locked():
        data = train(run, data)
    end(data.unreadable)


def train(run: Run, data: Dataset) -> Dataset:
    """Train on data; returns what of it could be read."""
    config = run.config
    log_to(run.folder / "log.txt")
    run.describe()
    logger.info(
        "%d pictures of %s, classes: %s",
        len(data.records),
        config.data.train_split,
        " ".join(data.classes),
    )

    weights = load_weights(config.network.name, config.network.weights, stages.weights_folder(run))
    logger.info("%s weights: %s", config.network.name, weights.source)

    windows, data = find_windows(run, config.data.train_split, data)
    check_classes(data, config.data.train_split, difficult=config.data.difficult)
    backbone = stages.backbone_stage(run, data, weights)
    finetuned = finetune_stage(run, data, windows, weights, backbone)
    extractor = stages.make_extractor(run, backbone)
    bank = stages.bank_stage(run, data, windows, extractor)
    entries = [bank.load(record) for record in data.records]
    features = stages.layer_features(run, entries, finetuned.head)
    svms = linear_stages.svm_stage(run, data, windows, entries, extractor, features, finetuned.key)
    if config.bbox.layer == "fc7" and finetuned.boxes is not None:
        regressor = regressor_of(finetuned.boxes, features.factors.get("fc7", 1.0))
    else:
        regressor = linear_stages.bbox_stage(run, data, bank, entries, features.factors["pool5"])

    detector = SPPDetector(
        data.classes,
        extractor,
        features,
        svms,
        regressor,
        config.proposals,
        config.detection,
        {
            "network": network_name(config),
            "split": config.data.train_split,
            "pictures": len(data.records),
            "limited": config.limit is not None,
            "seed": config.seed,
            "precision": config.precision,
        },
        config.bbox.layer,
    )
    detector.save(run.detector_path)
    digest = file_digest(run.detector_path)
    run.event("detector", digest=digest)
    stages_of_training = {
        name: one
        for name, one in stage_seconds(run.folder).items()
        if not name.startswith(("detection", "evaluation", f"windows of {config.data.test_split}"))
    }
    print(format_stages(stages_of_training, len(data.records)))
    print(f"detector {run.detector_path} sha256 {digest}")
    print(f"next: python tools/test_det.py --run {config.run}")
    return data


def network_name(config: Config) -> str:
    """The network in tables: with the first convolution that was trained, where any was.

    Where boxes were trained with it that is told too, and which box regression is not theirs.
    """
    tuned = "" if config.finetune.layers == "fc" else f"_{config.finetune.layers}"
    if config.finetune.box_loss:
        tuned += "_boxes" if config.bbox.layer == "fc7" else "_boxes_ridge"
    return config.network.name + tuned


if __name__ == "__main__":
    run_configured(main)
