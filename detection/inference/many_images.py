"""Detection in many images: files are distributed to processes, each with its own detector."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from joblib import delayed
from numpy.typing import NDArray

from detection.detections import Detections
from detection.inference.detector import SPPDetector
from detection.machine import Precision
from detection.pool import shared_out, works_here
from detection.settings.testing import Detection
from files.images import UnreadableImage, cut_short, read_image
from proposals.methods import Proposals

# Draws detections of an image (H, W, 3) in a file.
Draw = Callable[[NDArray[np.uint8], Detections, Path], None]
# A process takes longer to start than so many images take.
IMAGES_A_PROCESS = 8


@dataclass(frozen=True)
class DetectorSource:
    """What another process loads a detector from.

    Attributes:
        path: the detector's file.
        digest: of its bytes; tells one training from the next.
        scales: number of test scales; None as in training.
        precision: of the network; None as in training.
        detection: settings; None as in training.
        proposals: how windows are made; None as in training.
        device: where the network runs.
    """

    path: Path
    digest: str
    scales: Literal[1, 5] | None = None
    precision: Precision | None = None
    detection: Detection | None = None
    proposals: Proposals | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class ImageJob:
    """An image to be searched.

    Attributes:
        image: its file.
        drawing: the file its detections are drawn in; None draws nothing.
        threshold: as ``SPPDetector.detect``.
    """

    image: Path
    drawing: Path | None
    threshold: float | None


@dataclass(frozen=True)
class ImageResult:
    """What came of an image.

    Attributes:
        image: its file.
        size: (height, width); (0, 0) where it could not be read.
        found: its detections.
        cut_short: the file ends early, and what is there of it was searched.
        unreadable: why it could not be read, or empty.
    """

    image: Path
    size: tuple[int, int]
    found: Detections
    cut_short: bool = False
    unreadable: str = ""


@lru_cache(maxsize=1)
def detector_of_process(source: DetectorSource) -> SPPDetector:
    """The detector of a source, loaded once in a process."""
    detector = SPPDetector.load(
        source.path,
        device=source.device,
        scales=source.scales,
        precision=source.precision,
        detection=source.detection,
    )
    return detector if source.proposals is None else replace(detector, proposals=source.proposals)


def detect_files(
    source: DetectorSource,
    jobs: Iterable[ImageJob],
    workers: int,
    draw: Draw,
    cluster: str | None = None,
) -> Iterator[ImageResult]:
    """Search images; results come in the order of the jobs, and no more than a few wait.

    Args:
        source: of the detector.
        jobs: images, and where they are drawn.
        workers: processes of one thread each; beside a GPU they make the windows, and this process
            does the rest. One worker on a CPU searches in this process, with all of its threads.
        draw: draws an image's detections in a job's file, in the process that found them.
        cluster: as of ``shared_out``.
    """
    gpu = source.device != "cpu"
    here = works_here(workers, cluster=cluster, gpu=gpu)
    if here and workers == 1:
        detector = detector_of_process(source)
        yield from (search(detector, job, draw) for job in jobs)
        return
    if here and gpu:
        detector = detector_of_process(source)
        # In threads, windows would be made one image at a time (proposals/opencv.py).
        jobs = list(jobs)
        windows = shared_out(workers, "generator")(
            delayed(_windows)(detector.proposals, job.image) for job in jobs
        )
        for job, proposed in zip(jobs, windows, strict=True):
            yield search(detector, job, draw, proposed)
        return
    pool = shared_out(workers, "generator", cluster=cluster, gpu=gpu)
    if here:
        detector = detector_of_process(source)
        yield from pool(delayed(search)(detector, job, draw) for job in jobs)
        return
    yield from pool(delayed(_in_process)(source, job, draw) for job in jobs)


def workers_for(images: int, workers: int) -> int:
    """How many of the workers are worth their start for so many images."""
    return max(1, min(workers, images // IMAGES_A_PROCESS))


def _in_process(source: DetectorSource, job: ImageJob, draw: Draw) -> ImageResult:
    return search(detector_of_process(source), job, draw)


def _windows(proposals: Proposals, image: Path) -> NDArray[np.float32] | None:
    """Windows of an image; None where it cannot be read, of which ``search`` tells."""
    try:
        return proposals(read_image(image))
    except (OSError, UnreadableImage):
        return None


def search(
    detector: SPPDetector,
    job: ImageJob,
    draw: Draw,
    windows: NDArray[np.float32] | None = None,
) -> ImageResult:
    """Detections of an image, drawn where the job says so; windows as ``SPPDetector.detect``."""
    try:
        pixels = read_image(job.image)
    except (OSError, UnreadableImage) as error:  # other images do not depend on this one
        nothing = Detections.empty(detector.classes)
        return ImageResult(job.image, (0, 0), nothing, unreadable=str(error))
    found = detector.search(pixels, windows, job.threshold)
    if job.drawing is not None:
        draw(pixels, found, job.drawing)
    return ImageResult(job.image, pixels.shape[:2], found, cut_short(job.image))
