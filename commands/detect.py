"""Find objects in your own images: print a line per detection, draw the images.

    python tools/detect.py street.jpg                        # people, cars, dogs: VOC's 20 classes
    python tools/detect.py --run runs/mine street.jpg holiday/ --threshold 0.3
    python tools/detect.py --run runs/mine holiday/ --csv found.csv --drawings=false --workers 2

The detector is the one that comes with the package, or a run's, or any file. A folder means all
images in it and its subfolders, of any format that Pillow opens. A line has the image, class, score
and box x1, y1, x2, y2, separated by tabs. The score is the probability that the detection is
right, or a raw score if the detector has no calibration. The box is in pixels of the upright
image, counted from 0 and half-open: its width is x2 - x1. Images that cannot be read are skipped
and listed at the end; the exit status is then 3.
"""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Literal

import numpy as np
from joblib import cpu_count
from numpy.typing import NDArray
from tqdm import tqdm

from commands.cli import WordsParser, end, run_tool, with_progress
from commands.result_files import ResultFiles
from detection.detections import Detections
from detection.evaluation.drawings import FORMATS, draw_detections
from detection.evaluation.exports import Found
from detection.inference.detector import RAW_SCORES, SPPDetector
from detection.inference.detector_file import SHIPPED, shipped
from detection.inference.many_images import (
    DetectorSource,
    ImageJob,
    ImageResult,
    detect_files,
    detector_of_process,
    workers_for,
)
from detection.machine import Precision, device_named
from files.image_folders import images_below
from files.writing import file_digest, refuse_inputs
from proposals.methods import Proposals

logger = logging.getLogger("detect")

# Characters that would break a line or shift its columns.
ESCAPES = str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r"})


def main(
    images: list[str],
    run: str | None = None,
    detector: str = "voc07",
    out: str | None = None,
    drawings: bool = True,
    json: Path | None = None,
    csv: Path | None = None,
    yolo: Path | None = None,
    threshold: float | None = None,
    windows: Literal["selective_search", "edge_boxes", "both"] | None = None,
    scales: Literal[1, 5] | None = None,
    precision: Precision | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    workers: int = 0,
    cluster: str | None = None,
    strict: bool = False,
) -> None:
    """Find objects in images, print them and draw them.

    Args:
        images: images, or folders of images.
        run: folder of a run, to use its detector.
        detector: file of a detector, or the name of one that comes with the package, if no run is
            given.
        out: folder for the drawn images; by default 'detected' beside the detector.
        drawings: draw the images.
        json: file for all detections as COCO's JSON.
        csv: file for all detections as a table.
        yolo: folder for YOLO's text files, one per image, and classes.txt.
        threshold: keep scores above this: probabilities (default 0.5), or raw scores (default
            -0.7) if the detector has no calibration.
        windows: the method that proposes windows, by default the detector's; EdgeBoxes take less
            than half the time of selective search.
        scales: number of image scales, by default the detector's; 1 is faster than 5.
        precision: number format of conv and fc layers, by default the detector's; bfloat16 is
            faster on CPUs that support it, other machines use float32.
        device: where the network runs; 'auto' uses a CUDA device if there is one.
        workers: number of processes, 0 for one per core; a few images are searched in one process.
        cluster: address of a Dask scheduler, such as tcp://scheduler:8786; its workers replace
            this machine's processes and need images, detector and drawings at the same paths.
        strict: stop at the first image that cannot be read.
    """
    path = Path(run) / "detector.safetensors" if run else shipped(detector)
    folder = Path(out) if out else folder_beside(path)
    names = find_images(images, folder)
    places = plan_drawings(names, folder)
    files = ResultFiles(json, csv, yolo)
    refuse_inputs([*(places.values() if drawings else ()), *filter(None, (json, csv))], places)
    source = DetectorSource(
        path,
        file_digest(path) if path.is_file() else "",
        scales,
        precision,
        proposals=None if windows is None else Proposals(method=windows),
        device=device_named(device).type,
    )
    known = loaded(source)
    files.check(names, known.classes)
    jobs = [
        ImageJob(image, place if drawings else None, threshold) for image, place in places.items()
    ]
    useful = workers_for(len(jobs), workers or cpu_count())
    results = detect_files(source, jobs, useful, draw, cluster)
    skipped: dict[str, str] = {}
    searched, found = counted(
        timed(results, len(jobs), skipped, strict=strict), keep=bool(files.wanted)
    )
    files.write(found, names, known.classes)
    if drawings:
        logger.info("images drawn: %d, in %s", searched, folder)
    end(skipped)


def loaded(source: DetectorSource) -> SPPDetector:
    """The detector; a warning is logged if its scores are raw."""
    detector = detector_of_process(source)
    if not detector.shows_probabilities:
        logger.warning("%s", RAW_SCORES.format(source.path, detector.display_threshold))
    return detector


def folder_beside(detector: Path) -> Path:
    """Folder of the drawings: beside the detector, or the working folder for the package's own."""
    return (Path() if detector.parent == SHIPPED else detector.parent) / "detected"


def counted(results: Iterable[ImageResult], *, keep: bool) -> tuple[int, dict[Path, Found]]:
    """The number of results and, with ``keep``, what was found in each image."""
    found: dict[Path, Found] = {}
    count = 0
    for result in results:
        count += 1
        if keep:  # otherwise memory does not grow with the number of images
            found[result.image] = (result.found, result.size)
    return count, found


def timed(
    results: Iterator[ImageResult], count: int, skipped: dict[str, str], *, strict: bool
) -> Iterator[ImageResult]:
    """As ``reported``, with a progress bar, and the images per second at the end."""
    start, detections = time.perf_counter(), 0
    with closing(with_progress(results, "images", count)) as shown:
        for result in reported(shown, skipped, strict=strict):
            detections += len(result.found)
            yield result
    seconds = time.perf_counter() - start
    rate = count / seconds
    logger.info("images searched: %d, in %.1f seconds, %.2f a second", count, seconds, rate)
    if not detections and len(skipped) < count:
        logger.info("no detection is above the threshold; a lower --threshold shows more")


def reported(
    results: Iterable[ImageResult], skipped: dict[str, str], *, strict: bool
) -> Iterator[ImageResult]:
    """The results of images that could be read, each printed; the others go to ``skipped``.

    Raises:
        ValueError: an image cannot be read, and ``strict`` is asked for.
    """
    for result in results:
        if result.unreadable:
            if strict:
                raise ValueError(result.unreadable)
            logger.warning("%s", result.unreadable)
            skipped[str(result.image)] = result.unreadable
            continue
        if result.cut_short:
            logger.warning("%s ends early; the part that is there is searched", result.image)
        print_detections(result.image, result.found)
        yield result


def draw(image: NDArray[np.uint8], found: Detections, path: Path) -> None:
    """Draw all detections."""
    draw_detections(image, found, path, top=len(found))


def find_images(words: list[str], out: Path) -> dict[Path, Path]:
    """The images that the command line names, and those in the folders that it names.

    Args:
        words: images and folders.
        out: folder of the drawings; images in it are not searched.

    Returns:
        For each image its name below the folder that was given, or its own name.

    Raises:
        FileNotFoundError: a folder without images.
    """
    found: dict[Path, Path] = {}
    for place in map(Path, words):
        if not place.is_dir():
            found.setdefault(place, Path(place.name))
            continue
        inside, others = images_below(place)
        if place.resolve() in out.resolve().parents:
            drawn = [path for path in inside if out.resolve() in path.resolve().parents]
            inside = sorted(set(inside) - set(drawn))
            others += len(drawn)
        if not inside:
            raise FileNotFoundError(
                f"no image in {place.absolute()} or its subfolders, only {others} other files; "
                "expected endings such as .jpg, .png, .bmp, .tif and .webp"
            )
        if others:
            logger.info("%s: %d images, %d other files ignored", place, len(inside), others)
        for path in inside:
            found.setdefault(path, path.relative_to(place))
    return found


def plan_drawings(images: Mapping[Path, Path], folder: Path) -> dict[Path, Path]:
    """Path of each image's drawing: its own name in ``folder``, with a number if that is taken.

    Args:
        images: each image's name below the folder that was given.
        folder: folder for the drawings.
    """
    drawings: dict[Path, Path] = {}
    taken: set[str] = set()
    for image, name in images.items():
        if name.suffix.lower() not in FORMATS:
            name = name.with_name(f"{name.name}.jpg")
        free, number = name, 1
        while str(free).casefold() in taken:  # some file systems ignore case
            number += 1
            free = name.with_stem(f"{name.stem}_{number}")
        taken.add(str(free).casefold())
        drawings[image] = folder / free
    return drawings


def print_detections(image: Path, found: Detections) -> None:
    """Print a line per detection, best first: image, class, score, box, separated by tabs."""
    for box, name, score in found:
        corners = "\t".join(f"{corner:.1f}" for corner in box)
        line = f"{str(image).translate(ESCAPES)}\t{name}\t{score:.3f}\t{corners}"
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()


def run() -> None:
    """Call ``main`` with the flags of the command line."""
    run_tool(main, parser_class=WordsParser)
