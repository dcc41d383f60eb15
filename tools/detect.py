"""Find objects in your own images: one line a detection, and the images drawn.

    python tools/detect.py --run runs/quickstart street.jpg holiday/
    python tools/detect.py --detector detector.safetensors street.jpg --threshold 0
    python tools/detect.py --run runs/mine --scales 1 --windows edge_boxes holiday/

A folder stands for every image in it and its subfolders, of any format that Pillow opens. A line
has the image, class, score and box x1, y1, x2, y2, with tabs between. The box is in pixels of the
upright image, counted from 0 and half-open: its width is x2 - x1. An image that cannot be read is
skipped; these are listed at the end, and the exit status is 3.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from _cli import WordsParser, end, run_tool

from detection.config import Config
from detection.detections import Detections
from detection.evaluation.plots import FORMATS, draw_detections
from detection.features.extractor import Precision
from detection.inference.detector import SPPDetector
from files.images import UnreadableImage, cut_short, images_below, read_image
from files.writing import refuse_inputs

logger = logging.getLogger("detect")

# What would break a line into more, or into other columns.
ESCAPES = str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r"})


def main(
    images: list[str],
    run: str = Config.run,
    detector: str | None = None,
    out: str | None = None,
    threshold: float | None = None,
    windows: Literal["selective_search", "edge_boxes", "both"] | None = None,
    scales: Literal[1, 5] | None = None,
    precision: Precision | None = None,
    strict: bool = False,
) -> None:
    """Find objects in images, print them and draw them.

    Args:
        images: images, or folders of images.
        run: folder of the run that trained the detector.
        detector: a detector's file, in place of a run's.
        out: folder for the drawn images; 'detected' beside the detector without it.
        threshold: keep what scores above this, down to the detector's own limit of -1.5; scores
            above 0 say 'object'. Without it -0.7, or 0.5 where softmax scores.
        windows: the method that proposes them; EdgeBoxes' take a third of selective search's time.
            Without it as in training.
        scales: number of image scales; 1 is quicker than 5. Without it as in training.
        precision: numbers of conv and fc layers; bfloat16 is quicker on CPUs that have it. Without
            it as in training.
        strict: stop at the first image that cannot be read.
    """
    path = Path(detector) if detector else Path(run) / "detector.safetensors"
    folder = Path(out) if out else path.parent / "detected"
    drawings = plan_drawings(find_images(images, folder), folder)
    refuse_inputs(drawings.values(), drawings)
    found_by = SPPDetector.load(path, scales=scales, precision=precision)
    if windows is not None:
        changed = replace(found_by.proposals, method=windows, file=None)
        found_by = replace(found_by, proposals=changed)
    skipped: dict[str, str] = {}
    for number, (image, drawing) in enumerate(drawings.items(), start=1):
        try:
            pixels = read_image(image)
        except (FileNotFoundError, UnreadableImage) as error:
            if strict:
                raise
            logger.warning("%s", error)
            skipped[str(image)] = str(error)
            continue
        if cut_short(image):
            logger.warning("%s ends early; what is there of it is searched", image)
        found = found_by.detect(pixels, score_threshold=threshold)
        print_detections(image, found)
        draw_detections(pixels, found, drawing, top=len(found))
        logger.info(
            "%d of %d, %s: %d detections, drawn in %s",
            number,
            len(drawings),
            image,
            len(found),
            drawing,
        )
    end(skipped)


def find_images(words: list[str], out: Path) -> dict[Path, Path]:
    """The images that words of the command line name, folders replaced by what they hold.

    Args:
        words: images and folders.
        out: folder of the drawings: where it lies in a folder, what is in it is no image to search.

    Returns:
        Of each image its name in the folder that was given, or its own name.

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
                f"no image in {place.absolute()} or below it, and {others} other files; expected "
                "endings such as .jpg, .png, .bmp, .tif and .webp"
            )
        if others:
            logger.info("%s: %d images, %d other files passed over", place, len(inside), others)
        for path in inside:
            found.setdefault(path, path.relative_to(place))
    return found


def plan_drawings(images: Mapping[Path, Path], folder: Path) -> dict[Path, Path]:
    """Where each image is drawn: under its own name in ``folder``, with a number if that is taken.

    Args:
        images: of each its name below the folder.
        folder: for the drawings.
    """
    drawings: dict[Path, Path] = {}
    taken: set[str] = set()
    for image, name in images.items():
        if name.suffix.lower() not in FORMATS:
            name = name.with_name(f"{name.name}.jpg")
        free, number = name, 1
        while str(free).casefold() in taken:  # some file systems know no case
            number += 1
            free = name.with_stem(f"{name.stem}_{number}")
        taken.add(str(free).casefold())
        drawings[image] = folder / free
    return drawings


def print_detections(image: Path, found: Detections) -> None:
    """One line a detection, best first: image, class, score, box, with tabs between."""
    for box, name, score in found:
        corners = "\t".join(f"{corner:.1f}" for corner in box)
        print(f"{str(image).translate(ESCAPES)}\t{name}\t{score:.3f}\t{corners}", flush=True)


if __name__ == "__main__":
    run_tool(main, parser_class=WordsParser)
