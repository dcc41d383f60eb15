"""A training from images to detector: all stages, in the paper's order (section 4).

Each stage writes an artefact whose name has a key of everything that determines it. So a second
call computes only what is missing, and a killed run that is resumed ends with the same bytes.
"""

import logging
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from detection.config import Config
from detection.data.records import Dataset
from detection.data.windows import find_windows
from detection.inference.detector import SPPDetector
from detection.networks.backbone import Backbone
from detection.ranks import joined
from detection.run import TRAINED_ON, Run
from detection.training.box_regression_stage import box_regression_stage
from detection.training.calibration_stage import calibration_stage
from detection.training.extractors import make_extractor
from detection.training.feature_cache import Sampling
from detection.training.finetuning.stage import Finetuned, finetune_stage
from detection.training.held_back import split_held_back
from detection.training.labels import check_classes
from detection.training.network_stage import network_stage
from detection.training.scaling import scaled_layers
from detection.training.start import Start, load_start
from detection.training.svm_stage import svm_stage
from detection.training.window_features import window_features_stage
from files.writing import file_digest, save_text
from proposals.store import Windows

logger = logging.getLogger(__name__)


def train_detector(run: Run, data: Dataset) -> Dataset:
    """Run every stage, and save the detector in the run's folder.

    All processes of ``torchrun`` take part in fine-tuning; the first one does the rest.

    Args:
        run: its settings are those of the training.
        data: annotated images.

    Returns:
        The data without images that cannot be read.

    Raises:
        ValueError: a class has no object to learn from, or a stage refuses its input.
    """
    config, split = run.config, run.config.data.train_split
    check_classes(data, split, difficult=config.data.difficult)
    start = load_start(config)
    logger.info("%s weights: %s", start.network.name, start.weights.source)
    with joined(run.device) as ranks:
        with ranks.first_before_others():
            # 1. Windows of every image.
            windows, data = find_windows(run, split, data)
            check_classes(data, split, difficult=config.data.difficult)
            train, held_back = split_held_back(
                data, config.held_back, config.seed, difficult=config.data.difficult
            )
            # 2. The network, whose maps may be reduced.
            backbone = network_stage(run, start.network, train, start.weights)
        # 3. Fine-tuning on windows; the backbone is trained in place.
        finetuned = finetune_stage(
            run, config.finetune, train, held_back, windows, start.weights, backbone, ranks
        )
    if ranks.rank:
        return data
    # 4. to 7. The linear parts.
    learned = train.with_mirrored() if config.mirrored else train
    detector = fit_linear_parts(run, learned, windows, backbone, finetuned, start.regression)
    detector = replace(detector, trained=training_facts(config, start, data, held_back))
    # 8. Scores to probabilities, on the images held back.
    detector = calibration_stage(run, detector, held_back, windows)
    run.save_settings()
    save_text(run.folder / TRAINED_ON, "".join(f"{one.image_id}\n" for one in data.records))
    detector.save(run.detector_path)
    run.event("detector", digest=file_digest(run.detector_path))
    return data


def fit_linear_parts(
    run: Run,
    data: Dataset,
    windows: Windows,
    backbone: Backbone,
    finetuned: Finetuned,
    prior: NDArray[np.float32] | None,
) -> SPPDetector:
    """Train SVMs and box regression on a network's features; the detector, without its record.

    Args:
        run: its settings are those of the training.
        data: the training images.
        windows: the windows of each image.
        backbone: the trunk.
        finetuned: fc6 and fc7 on the trunk.
        prior: weights from which box regression starts (``Start.regression``).
    """
    config = run.config
    # 4. Features of the training windows.
    extractor = make_extractor(run, backbone)
    sampling = Sampling(config.data.difficult, config.bbox.min_iou, config.seed)
    cache = window_features_stage(run, sampling, data, windows, extractor)
    entries = [cache.load(record) for record in data.records]
    # 5. Their scale: mean norm 20.
    features = scaled_layers(config.svm.layers, config.precision, entries, finetuned.head)
    # 6. SVMs with hard negatives.
    svms = svm_stage(run, config.svm, data, windows, entries, extractor, features, finetuned.key)
    # 7. Box regression.
    factor = features.factors["pool5"]
    regressor = box_regression_stage(run, config.bbox, data, cache, entries, factor, prior)
    return SPPDetector(
        data.classes, extractor, features, svms, regressor, config.proposals, config.detection
    )


def training_facts(
    config: Config, start: Start, data: Dataset, held_back: Dataset
) -> dict[str, str | int | bool]:
    """How a detector was trained, for its record and for tables.

    ``train_from`` is the first part that was trained: 'svm' if no layer was. ``start`` is the
    digest of the start detector; empty without one.
    """
    return {
        "network": start.network.name,
        "start": start.digest,
        "train_from": config.finetune.train_from if config.finetune.steps else "svm",
        "split": data.split or config.data.train_split,
        "images": len(data.records),
        "held_back": len(held_back.records),
        "mirrored": config.mirrored,
        "limited": config.limit is not None,
        "seed": config.seed,
        "precision": config.precision,
    }
