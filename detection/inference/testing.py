"""A detector over a whole split: candidates of every picture on disk, detections from them.

Candidates are kept before suppression, so that a run can be scored again, with other limits or
together with another run's, without touching the network.
"""

from collections.abc import Mapping
from pathlib import Path

from detection.data.records import Dataset, ImageRecord
from detection.detections import Detections
from detection.inference.detector import SPPDetector
from detection.inference.postprocess import Candidates
from detection.run import Run
from proposals.disk import file_digest, key_of, read_picture
from proposals.store import WindowStore

VERSION = 1


def results_folder(run: Run) -> Path:
    """Where a test of the run's detector at the configured split and scales leaves its files."""
    return run.folder / f"test_{run.config.data.test_split}_{run.config.scales}scales"


def candidates_folder(run: Run, detector: SPPDetector, windows: WindowStore) -> Path:
    """Where the candidates lie, named by what determines them."""
    key = key_of(
        {
            "version": VERSION,
            "detector": file_digest(run.detector_path),
            "scales": list(detector.extractor.scales),
            "precision": detector.extractor.precision,
            "device": detector.extractor.backbone.device.type,
            "windows": windows.method.key,
            "per_class": detector.detection.candidates,
            "score_threshold": detector.detection.score_threshold,
        }
    )
    return results_folder(run) / f"candidates-{key}"


def candidates_file(folder: Path, record: ImageRecord) -> Path:
    """A picture's candidates, named by its id and its bytes: an edited picture is scored anew."""
    return folder / f"{record.image_id}_{file_digest(record.path)[:16]}.npz"


def score_split(run: Run, detector: SPPDetector, data: Dataset, windows: WindowStore) -> Path:
    """Score every picture that has no candidates yet; returns the folder of all.

    A picture's file is written whole when it is scored, so a killed test goes on where it was.
    """
    folder = candidates_folder(run, detector, windows)
    todo = [record for record in data.records if not candidates_file(folder, record).exists()]
    name = f"detection at {len(detector.extractor.scales)} scales"
    run.done_before(name, len(data.records) - len(todo), len(data.records))
    if not todo:
        return folder
    with run.stage(name):
        for record in run.progress(todo, "detection", len(todo)):
            image = read_picture(record.path)
            found = detector.candidates(image, windows.load(record.path))
            found.save(candidates_file(folder, record))
    return folder


def split_detections(
    detector: SPPDetector, data: Dataset, folder: Path
) -> Mapping[str, Detections]:
    """Detections of every picture of a split, by image id, from its candidates."""
    return {
        record.image_id: detector.finish(
            Candidates.load(candidates_file(folder, record)), record.size
        )
        for record in data.records
    }
