"""The stage of calibration: scores to probabilities, by images that no stage learned from."""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detection.data.records import Dataset
from detection.evaluation.comp4 import from_images
from detection.evaluation.voc_ap import VOCResult, evaluate_voc
from detection.inference.detector import SPPDetector
from detection.inference.testing import score_images, scored, split_detections
from detection.learners.calibration import Calibration
from detection.run import Run
from detection.training.feature_cache import image_key
from files.artefacts import read_artefact, write_artefact
from files.names import content_key
from files.writing import file_digest
from proposals.store import Windows

VERSION = 1

logger = logging.getLogger(__name__)


def calibration_stage(
    run: Run, detector: SPPDetector, held_back: Dataset, windows: Windows
) -> SPPDetector:
    """The detector with a calibration of each layer it can score by.

    Args:
        run: its folder and processes.
        detector: trained, without a calibration.
        held_back: images that it did not learn from; few objects leave it without, with a warning.
        windows: of each.
    """
    if all(record.difficult.all() for record in held_back.records):
        logger.warning(
            "no image with objects was held back: scores are shown as they are, not as "
            "probabilities; --held_back 0.08 holds some back"
        )
        return detector
    folder = run.folder / "stages" / "held-back"
    trained = folder / "detector.safetensors"
    detector.save(trained)
    facts = {"version": VERSION, "detector": file_digest(trained), "windows": windows.method.key}
    images = [image_key(record) for record in held_back.records]
    key = content_key(facts | {"scikit-learn": version("scikit-learn"), "images": images})
    path = run.artefact("calibration", key)
    if path.exists():
        run.reused("calibration", path)
    else:
        with run.stage("calibration", len(held_back.records)):
            folders = {layer: folder / f"{layer}-{key}" for layer in detector.layers}
            todo = [each for each in held_back.records if not scored(folders, each)]
            work = score_images(run, detector, trained, todo, windows, folders)
            for _ in run.progress(work, "calibration", len(todo)):
                pass
            write_artefact(path, key, _fitted(detector, held_back, folders))
    shutil.rmtree(folder)
    arrays = read_artefact(path, key).arrays
    layers = [layer for layer in detector.layers if f"{layer}.slope" in arrays]
    return replace(
        detector,
        calibration={
            layer: Calibration.from_arrays(arrays[f"{layer}.slope"], arrays[f"{layer}.offset"])
            for layer in layers
        },
    )


def _fitted(
    detector: SPPDetector, held_back: Dataset, folders: Mapping[str, Path]
) -> dict[str, NDArray]:
    """Slopes and offsets of each layer whose detections are enough to learn from."""
    arrays: dict[str, NDArray] = {}
    for layer, folder in folders.items():
        found = from_images(split_detections(detector, held_back, folder), detector.classes)
        result = evaluate_voc(found, held_back.records, detector.classes)
        try:
            fitted = Calibration().fit(*outcomes(result), len(detector.classes))
        except ValueError as error:
            logger.warning("scores by %s are shown as they are: %s", layer, error)
            continue
        arrays |= {f"{layer}.slope": fitted.slope_, f"{layer}.offset": fitted.offset_}
    return arrays


def outcomes(result: VOCResult) -> tuple[NDArray, NDArray[np.int64], NDArray[np.bool_]]:
    """Scores, classes and whether right, ``(n,)`` each, of the detections that count."""
    scores, labels, correct = [], [], []
    for label, of_class in enumerate(result.per_class.values()):
        right = np.diff(of_class.tp, prepend=0) > 0
        counts = right | (np.diff(of_class.fp, prepend=0) > 0)
        scores.append(of_class.scores[counts])
        labels.append(np.full(int(counts.sum()), label, np.int64))
        correct.append(right[counts])
    return np.concatenate(scores), np.concatenate(labels), np.concatenate(correct)
