"""A detector over a whole split: candidates of every picture on disk, detections from them.

Candidates are kept before suppression, so that a run can be scored again, with other limits or
together with another run's, without touching the network.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from joblib import Parallel, delayed, parallel_config
from numpy.typing import NDArray

from detection.config import Detection
from detection.data.records import Dataset, ImageRecord
from detection.detections import Detections
from detection.inference.detector import Precision, SPPDetector
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
        for _ in run.progress(_score_all(run, detector, todo, windows, folder), name, len(todo)):
            pass
    return folder


def _score_all(
    run: Run,
    detector: SPPDetector,
    records: Sequence[ImageRecord],
    windows: WindowStore,
    folder: Path,
) -> Iterator[Path]:
    """Score pictures: on the CPU by processes of one thread, each with its own detector."""
    jobs = (
        (record.path, windows.load(record.path), candidates_file(folder, record))
        for record in records
    )
    if run.device.type != "cpu" or run.workers == 1:
        for job in jobs:
            yield _score(detector, *job)
        return
    source = (
        run.detector_path,
        file_digest(run.detector_path),
        len(detector.extractor.scales),
        detector.extractor.precision,
        detector.detection,
    )
    with parallel_config(backend="loky", inner_max_num_threads=1):
        pool = Parallel(n_jobs=run.workers, return_as="generator_unordered")
        yield from pool(delayed(_score_in_process)(source, *job) for job in jobs)


def _score(detector: SPPDetector, picture: Path, windows: NDArray[np.float32], path: Path) -> Path:
    detector.candidates(read_picture(picture), windows).save(path)
    return path


def _score_in_process(
    source: tuple[Any, ...], picture: Path, windows: NDArray[np.float32], path: Path
) -> Path:
    return _score(_detector_of_process(*source), picture, windows, path)


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
