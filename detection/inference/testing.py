"""A detector over a whole split: candidates of every picture on disk, detections from them.

Candidates are kept before suppression, so that a run can be scored again, with other limits or
together with another run's, without touching the network.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from joblib import delayed
from numpy.typing import NDArray

from detection.config import Detection
from detection.data.records import Dataset, ImageRecord
from detection.detections import Detections
from detection.features.extractor import Precision
from detection.inference.detector import SPPDetector
from detection.inference.postprocess import Candidates
from detection.run import Run
from proposals.disk import file_digest, key_of, read_picture
from proposals.store import Windows

VERSION = 3
# Raised when truncated layers compute other numbers; whole ones keep their candidates.
TRUNCATION = 2


def results_folder(run: Run) -> Path:
    """Where a test of the run's detector at the configured split and scales leaves its files."""
    return run.folder / f"test_{run.config.data.test_split}_{run.config.scales}scales"


def candidates_folder(run: Run, detector: SPPDetector, windows: Windows, layer: str) -> Path:
    """Where the candidates by a layer's scores lie, named by what determines them."""
    rank = detector.detection.fc_rank
    key = key_of(
        {
            "version": VERSION,
            "detector": file_digest(run.detector_path),
            "features": detector.extractor.facts,
            "windows": windows.method.key,
            "layer": layer,
            "fc_rank": None if rank is None else [rank, TRUNCATION],
            "per_class": detector.detection.candidates,
            "score_threshold": detector.detection.score_threshold,
        }
    )
    return results_folder(run) / f"candidates-{layer}-{key}"


def candidates_file(folder: Path, record: ImageRecord) -> Path:
    """A picture's candidates, named by its id and its bytes: an edited picture is scored anew."""
    return folder / f"{record.image_id}_{file_digest(record.path)[:16]}.npz"


def score_split(
    run: Run, detector: SPPDetector, data: Dataset, windows: Windows
) -> dict[str, Path]:
    """Score every picture that has no candidates yet; returns each layer's folder.

    The network runs once for all layers that the detector can score by, so that another layer's
    results take seconds. A picture's files are written whole when it is scored, so a killed test
    goes on where it was.
    """
    folders = {layer: candidates_folder(run, detector, windows, layer) for layer in detector.layers}
    todo = [record for record in data.records if not _scored(folders, record)]
    name = stage_name(detector, windows)
    run.done_before(name, len(data.records) - len(todo), len(data.records))
    if todo:
        with run.stage(name, len(todo)):
            scored = _score_all(run, detector, todo, windows, folders)
            for _ in run.progress(scored, name, len(todo)):
                pass
    return folders


def stage_name(detector: SPPDetector, windows: Windows) -> str:
    """What a test is called in the log and in metrics.jsonl, with what its time depends on."""
    extractor, rank = detector.extractor, detector.detection.fc_rank
    scales = extractor.facts.get("scales", ())
    return ", ".join(
        (
            f"detection at {len(scales)} scales" if scales else "detection by R-CNN",
            windows.method.name,
            extractor.precision,
            *(() if rank is None else (f"fc rank {rank}",)),
        )
    )


def _scored(folders: Mapping[str, Path], record: ImageRecord) -> bool:
    return all(candidates_file(folder, record).exists() for folder in folders.values())


def _score_all(
    run: Run,
    detector: SPPDetector,
    records: Sequence[ImageRecord],
    windows: Windows,
    folders: Mapping[str, Path],
) -> Iterator[None]:
    """Score pictures; processes load a detector each."""
    jobs = ((record, windows.load(record.path), folders) for record in records)
    pool = run.pool("generator_unordered")
    if run.shares_network:
        yield from pool(delayed(_score)(detector, *job) for job in jobs)
        return
    source = (
        run.detector_path,
        file_digest(run.detector_path),
        run.config.scales,
        run.config.precision,
        detector.detection,
    )
    yield from pool(delayed(_score_in_process)(source, *job) for job in jobs)


def _score(
    detector: SPPDetector,
    record: ImageRecord,
    windows: NDArray[np.float32],
    folders: Mapping[str, Path],
) -> None:
    found = detector.candidates(read_picture(record.path), windows, list(folders))
    for layer, candidates in found.items():
        candidates.save(candidates_file(folders[layer], record))


def _score_in_process(
    source: tuple[Any, ...],
    record: ImageRecord,
    windows: NDArray[np.float32],
    folders: Mapping[str, Path],
) -> None:
    _score(_detector_of_process(*source), record, windows, folders)


@lru_cache(maxsize=1)
def _detector_of_process(
    path: Path, digest: str, scales: Literal[1, 5], precision: Precision, detection: Detection
) -> SPPDetector:
    """A run's detector, loaded once a process; the digest tells one training from the next."""
    return SPPDetector.load(path, scales=scales, precision=precision, detection=detection)


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
