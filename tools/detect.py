"""Find objects in your own pictures: one line a detection, and the pictures drawn.

    python tools/detect.py --run runs/quickstart street.jpg holiday/
    python tools/detect.py --detector detector.safetensors street.jpg --threshold 0
    python tools/detect.py --run runs/mine --windows edge_boxes --scales 1 holiday/    # quicker

A folder stands for the .jpg, .jpeg and .png pictures in it. A line has the picture, class, score
and box x1, y1, x2, y2, with tabs between. The box is in pixels of the upright picture, counted from
0 and half-open: its width is x2 - x1.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Literal

from _cli import WordsParser, run_tool

from detection.config import Config
from detection.data.voc import SUFFIXES
from detection.detections import Detections
from detection.evaluation.plots import FORMATS, draw_detections
from detection.features.extractor import Precision
from detection.inference.detector import SPPDetector
from proposals.disk import read_picture

logger = logging.getLogger("detect")


def main(
    pictures: list[str],
    run: str = Config.run,
    detector: str | None = None,
    out: str | None = None,
    threshold: float | None = None,
    windows: Literal["selective_search", "edge_boxes", "both"] | None = None,
    scales: Literal[1, 5] | None = None,
    precision: Precision | None = None,
) -> None:
    """Find objects in pictures, print them and draw them.

    Args:
        pictures: pictures, or folders of pictures.
        run: folder of the run that trained the detector.
        detector: a detector's file, in place of a run's.
        out: folder for the drawn pictures; 'detected' beside the detector without it.
        threshold: keep what scores above this, down to the detector's own limit of -1.5; scores
            above 0 say 'object'. Without it -0.7, or 0.5 where softmax scores.
        windows: where objects are looked for; without it as in training. EdgeBoxes' take a third
            of selective search's time.
        scales: 1 for one scale (688), quicker, or 5; without it as in training.
        precision: bfloat16 is quicker on CPUs that have it; without it as in training.
    """
    path = Path(detector) if detector else Path(run) / "detector.safetensors"
    folder = Path(out) if out else path.parent / "detected"
    drawings = plan_drawings(find_pictures(pictures), folder)
    found_by = SPPDetector.load(path, scales=scales, precision=precision)
    if windows is not None:
        proposals = replace(found_by.proposals, method=windows, file=None)
        found_by = replace(found_by, proposals=proposals)
    unreadable = 0
    for picture, drawing in drawings.items():
        try:
            image = read_picture(picture)
        except (FileNotFoundError, ValueError) as error:
            logger.error("%s", error)
            unreadable += 1
            continue
        found = found_by.detect(image, score_threshold=threshold)
        print_detections(picture, found)
        draw_detections(image, found, drawing, top=len(found))
        logger.info("%s: %d detections, drawn in %s", picture, len(found), drawing)
    if unreadable:
        raise RuntimeError(f"{unreadable} of {len(drawings)} pictures could not be read")


def find_pictures(words: list[str]) -> list[Path]:
    """The pictures that words of the command line name, folders replaced by what they hold.

    Raises:
        FileNotFoundError: a folder without pictures.
    """
    pictures: list[Path] = []
    for place in map(Path, words):
        if not place.is_dir():
            pictures.append(place)
            continue
        inside = sorted(path for path in place.iterdir() if path.suffix.lower() in SUFFIXES)
        if not inside:
            raise FileNotFoundError(f"no picture ({', '.join(SUFFIXES)}) in folder {place}")
        pictures += inside
    return pictures


def plan_drawings(pictures: list[Path], folder: Path) -> dict[Path, Path]:
    """Where each picture is drawn: under its own name in ``folder``, each picture once.

    Raises:
        ValueError: a drawing would replace another one, or one of the pictures.
    """
    originals = {picture.resolve() for picture in pictures}
    drawings: dict[Path, Path] = {}
    drawn: dict[Path, Path] = {}
    for picture in dict.fromkeys(pictures):
        name = picture.name if picture.suffix.lower() in FORMATS else f"{picture.name}.jpg"
        drawing = folder / name
        if drawing.resolve() in originals:
            raise ValueError(f"the drawing of {picture} would replace it; name another --out")
        if drawing in drawn:
            raise ValueError(
                f"{drawn[drawing]} and {picture} would both be drawn in {drawing}; "
                "give them in two calls with different --out"
            )
        drawings[picture] = drawing
        drawn[drawing] = picture
    return drawings


def print_detections(picture: Path, found: Detections) -> None:
    """One line a detection, best first: picture, class, score, box, with tabs between."""
    for box, name, score in found:
        corners = "\t".join(f"{corner:.1f}" for corner in box)
        print(f"{picture}\t{name}\t{score:.3f}\t{corners}", flush=True)


if __name__ == "__main__":
    run_tool(main, parser_class=WordsParser)
