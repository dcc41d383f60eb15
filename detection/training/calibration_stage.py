"""The stage of calibration: scores to probabilities, by images that no stage learned from."""

import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detection.data.records import Dataset
from detection.evaluation.average_precision import VOCResult
from detection.evaluation.comp4 import from_images
from detection.evaluation.voc_ap import evaluate_voc
from detection.events import events_of_training, stage_seconds
from detection.inference.detector import SPPDetector
from detection.inference.testing import score_images, scored, split_detections
from detection.learners.calibration import Calibration
from detection.machine import environment
from detection.pages.detection_report import NAME, shown_by, write_report
from detection.run import Run
from detection.training.feature_cache import image_key
from files.artefacts import read_artefact, write_artefact
from files.names import content_key
from files.writing import file_digest, save_text
from proposals.store import Windows

VERSION = 1

logger = logging.getLogger(__name__)


def calibration_stage(
    run: Run, detector: SPPDetector, held_back: Dataset, windows: Windows
) -> SPPDetector:
    """The detector with a calibration of each layer it can score by; the training's page.

    Args:
        run: its folder and processes.
        detector: trained, without a calibration.
        held_back: images that it did not learn from; few objects leave it without, with a warning.
        windows: of each.
    """
    if all(record.difficult.all() for record in held_back.records):
        logger.warning(
            "no image with objects was held back, so scores stay raw and are not probabilities; "
            "--held_back 0.08 holds some images back"
        )
        (run.folder / NAME).unlink(missing_ok=True)  # of another training in this folder
        return detector
    folder = run.folder / "stages" / "held-back"
    trained = folder / "detector.safetensors"
    detector.save(trained)
    facts = {"version": VERSION, "detector": file_digest(trained), "windows": windows.method.key}
    images = [image_key(record) for record in held_back.records]
    key = content_key(facts | {"scikit-learn": version("scikit-learn"), "images": images})
    path = run.artefact("calibration", key)
    page = path.with_name(f"report-{key}.html")
    if path.exists():
        run.reused("calibration", path)
    else:
        with run.stage("calibration", len(held_back.records)):
            folders = {layer: folder / f"{layer}-{key}" for layer in detector.layers}
            todo = [each for each in held_back.records if not scored(folders, each)]
            work = score_images(run, detector, trained, todo, windows, folders)
            for _ in run.progress(work, "calibration", len(todo)):
                pass
            arrays = _fitted(detector, held_back, folders)
            # The page comes first, so that it is there whenever the artefact is.
            _report(run, page, _calibrated(detector, arrays), held_back, folders[detector.layer])
            write_artefact(path, key, arrays)
    shutil.rmtree(folder)
    if page.exists():  # older versions kept none
        save_text(run.folder / NAME, page.read_text(encoding="utf-8"))
    return _calibrated(detector, read_artefact(path, key).arrays)


def _calibrated(detector: SPPDetector, arrays: Mapping[str, NDArray]) -> SPPDetector:
    """The detector with what ``_fitted`` gave."""
    calibration = {
        layer: Calibration.from_arrays(arrays[f"{layer}.slope"], arrays[f"{layer}.offset"])
        for layer in detector.layers
        if f"{layer}.slope" in arrays
    }
    return replace(detector, calibration=calibration)


def _report(
    run: Run, page: Path, detector: SPPDetector, held_back: Dataset, candidates: Path
) -> None:
    """Write the page of a training: results on the images held back, learning curve, times.

    It shows raw scores: the calibration was fitted to these images, so its error on them says
    nothing.
    """
    found = split_detections(detector, held_back, candidates)
    by_class = from_images(found, detector.classes)
    count = len(held_back.records)
    write_report(
        page,
        title=f"training of {run.folder.resolve().name}, on the {count} images held back",
        records=held_back.records,
        shown=shown_by(replace(detector, calibration={}), held_back.records, found),
        result=evaluate_voc(by_class, held_back.records, detector.classes),
        facts={
            "command": run.command,
            "date": time.strftime("%Y-%m-%d"),
            "stages": stage_seconds(run.folder),
            "environment": environment(),
        },
        settings=asdict(run.config),
        events=events_of_training(run.folder),
    )


def _fitted(
    detector: SPPDetector, held_back: Dataset, folders: Mapping[str, Path]
) -> dict[str, NDArray]:
    """Slopes and offsets of each layer whose detections are enough to learn from."""
    arrays: dict[str, NDArray] = {}
    raw: dict[str, str] = {}
    for layer, folder in folders.items():
        found = from_images(split_detections(detector, held_back, folder), detector.classes)
        result = evaluate_voc(found, held_back.records, detector.classes)
        try:
            fitted = Calibration().fit(*outcomes(result), len(detector.classes))
        except ValueError as error:
            raw[layer] = str(error)
            continue
        arrays |= {f"{layer}.slope": fitted.slope_, f"{layer}.offset": fitted.offset_}
    if raw:
        logger.warning(
            "scores by %s stay raw and are not probabilities: %s (images held back: %d; a larger "
            "--held_back holds more back)",
            *(", ".join(raw), raw.get(detector.layer, next(iter(raw.values())))),
            len(held_back.records),
        )
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
