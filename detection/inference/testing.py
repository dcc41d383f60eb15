"""A detector over a whole split: candidates of every image on disk, detections from them.

Candidates are kept before suppression, so that a run can be scored again, with other limits or
together with another run's, without touching the network.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml
from joblib import delayed
from numpy.typing import NDArray

from detection.data.records import Dataset, ImageRecord
from detection.detections import Detections
from detection.inference.detector import SPPDetector
from detection.inference.many_images import DetectorSource, detector_of_process
from detection.inference.postprocess import Candidates
from detection.run import TRAINED_ON, Run
from detection.settings.testing import Detection
from files.images import read_image
from files.names import check_file_name, content_key, file_part, short_name
from files.writing import content_digest, file_digest
from proposals.store import Windows

VERSION = 4
# Raised when truncated layers compute other numbers; whole ones keep their candidates.
TRUNCATION = 2
# Of detection's settings, and the words for them in the names of folders.
LIMITS = {
    "above": "score_threshold",
    "best": "candidates",
    "nms": "nms_iou",
    "top": "top_k",
    "passes": "bbox_passes",
}


def results_folder(run: Run) -> Path:
    """Where the tests of the run's detector at the configured split and scales leave their files.

    Candidates lie there too; each test has a folder of its own in it (``folder_of_test``).
    """
    split = check_file_name(run.config.data.test_split, "the split of the test")
    return run.folder / f"test_{split}_{run.config.scales}scales"


def folder_of_test(run: Run, detector: SPPDetector, windows: Windows) -> Path:
    """The folder of one test's results, named by what they depend on: ``fc7+bb_vote0.5``.

    What scores stands first; what is as by default, or as in training, is left out.
    """
    settings, default = detector.detection, Detection()
    changed = {
        "rank": settings.fc_rank,
        "vote": settings.vote_iou,
        **{word: getattr(settings, name) for word, name in LIMITS.items()},
    }
    usual = {word: getattr(default, name) for word, name in LIMITS.items()}
    words = [detector.layer + ("+bb" if settings.bbox else "")]
    if detector.extractor.precision != detector.trained["precision"]:
        words.append(detector.extractor.precision)
    words += [f"{word}{value:g}" for word, value in changed.items() if value != usual.get(word)]
    if run.config.proposals != detector.proposals:
        # Of the same name with other parameters or bytes, digits of the key tell them apart.
        name, key = windows.method.name, windows.method.key
        alike = name == detector.proposals.name or run.config.proposals.file is not None
        words.append(f"{name}-{key[:6]}" if alike else name)
    words += ["flip"] if settings.flip else []
    words += _other_images(run)
    if run.config.limit is not None:
        words.append(f"limit{run.config.limit}")
    return results_folder(run) / "_".join(words)


def seen_in_training(run: Run, data: Dataset) -> list[str]:
    """Ids of the images that the run's training had too; none where that is not known."""
    path = run.folder / TRAINED_ON
    if not path.exists() or _other_images(run):
        return []
    seen = set(path.read_text(encoding="utf-8").splitlines())
    return [record.image_id for record in data.records if record.image_id in seen]


def _other_images(run: Run) -> list[str]:
    """A word for the images where they are not of the data that the run was trained on."""
    path = run.folder / "config.yaml"
    trained = yaml.safe_load(path.read_text(encoding="utf-8")).get("data") if path.exists() else {}
    data, parts = run.config.data, ("root", "lists")
    places = [each and str(Path(each).resolve()) for each in (data.root, data.lists)]
    known = [each and str(Path(each).resolve()) for each in map((trained or {}).get, parts)]
    if not trained or places == known:
        return []
    return [f"{file_part(Path(data.root).resolve().name)}-{content_key({'places': places})[:6]}"]


def candidates_folder(run: Run, detector: SPPDetector, windows: Windows, layer: str) -> Path:
    """Where the candidates by a layer's scores lie, named by what determines them."""
    rank, passes = detector.detection.fc_rank, detector.detection.bbox_passes
    flip = detector.detection.flip
    key = content_key(
        {
            "version": VERSION,
            "detector": file_digest(run.detector_path),
            "features": detector.extractor.facts,
            "windows": windows.method.key,
            "layer": layer,
            "fc_rank": None if rank is None else [rank, TRUNCATION],
            "per_class": detector.detection.candidates,
            "score_threshold": detector.detection.score_threshold,
            **({} if passes == 1 else {"bbox_passes": passes}),
            **({"flip": True} if flip else {}),
        }
    )
    return results_folder(run) / f"candidates-{layer}-{key}"


def candidates_file(folder: Path, record: ImageRecord) -> tuple[Path, str]:
    """The file of an image's candidates, and its key: of the folder, the image's id and its bytes.

    An edited image is scored anew, and a file moved from elsewhere is refused.
    """
    parts = {"folder": folder.name, "id": record.image_id, "image": content_digest(record.path)}
    key = content_key(parts)
    return folder / f"{short_name(record.image_id, key)}.safetensors", key


def load_candidates(folder: Path, record: ImageRecord) -> Candidates:
    """The candidates that a test left of an image.

    Raises:
        FileNotFoundError, DamagedArtefact: as ``Candidates.load``.
    """
    return Candidates.load(*candidates_file(folder, record))


def score_split(
    run: Run, detector: SPPDetector, data: Dataset, windows: Windows
) -> dict[str, Path]:
    """Score every image that has no candidates yet; returns each layer's folder.

    The network runs once for all layers that the detector can score by, so that another layer's
    results take seconds. An image's files are written whole when it is scored, so a killed test
    resumes where it was.
    """
    folders = {layer: candidates_folder(run, detector, windows, layer) for layer in detector.layers}
    todo = [record for record in data.records if not scored(folders, record)]
    name = stage_name(detector, windows)
    run.done_before(name, len(data.records) - len(todo), len(data.records))
    if todo:
        with run.stage(name, len(todo)):
            work = score_images(run, detector, run.detector_path, todo, windows, folders)
            for _ in run.progress(work, name, len(todo)):
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


def scored(folders: Mapping[str, Path], record: ImageRecord) -> bool:
    """Whether an image has its candidates by each layer."""
    return all(candidates_file(folder, record)[0].exists() for folder in folders.values())


def score_images(
    run: Run,
    detector: SPPDetector,
    path: Path,
    records: Sequence[ImageRecord],
    windows: Windows,
    folders: Mapping[str, Path],
) -> Iterator[None]:
    """Write the candidates of images.

    Args:
        run: its processes, and the settings they load the detector with.
        detector: scores them.
        path: its file, from which processes load it.
        records: the images.
        windows: of each.
        folders: of each layer, the one its candidates are written to.
    """
    jobs = ((record, windows.load(record.path), folders) for record in records)
    pool = run.pool("generator_unordered")
    if run.shares_network:
        yield from pool(delayed(_score)(detector, *job) for job in jobs)
        return
    source = DetectorSource(
        path,
        file_digest(path),
        run.config.scales,
        run.config.precision,
        detector.detection,
        device=run.device.type,
    )
    yield from pool(delayed(_score_in_process)(source, *job) for job in jobs)


def _score(
    detector: SPPDetector,
    record: ImageRecord,
    windows: NDArray[np.float32],
    folders: Mapping[str, Path],
) -> None:
    found = detector.candidates(read_image(record.path), windows, list(folders))
    for layer, candidates in found.items():
        candidates.save(*candidates_file(folders[layer], record))


def _score_in_process(
    source: DetectorSource,
    record: ImageRecord,
    windows: NDArray[np.float32],
    folders: Mapping[str, Path],
) -> None:
    _score(detector_of_process(source), record, windows, folders)


def split_detections(
    detector: SPPDetector, data: Dataset, folder: Path
) -> Mapping[str, Detections]:
    """Detections of every image of a split, by image id, from its candidates.

    Raises:
        FileNotFoundError, DamagedArtefact: the candidates of an image are missing or damaged.
    """
    return {
        record.image_id: detector.finish(load_candidates(folder, record), record.size)
        for record in data.records
    }
