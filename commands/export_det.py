"""Write a small file of a run's detector, and say what it costs.

    python tools/export_det.py runs/voc07_minival_both small.safetensors
    python tools/export_det.py runs/mine mine.safetensors --rank 128 --numbers float32
    python tools/export_det.py runs/voc07_minival_both fast.safetensors --windows edge_boxes

fc6 and fc7 become products of thin layers (``--rank``), the weights whole numbers of one byte
(``--numbers int8``). The file works wherever a detector's file does. Its mAP, in a run of its own:

    python tools/export_det.py runs/voc07_minival_both runs/small/detector.safetensors
    python tools/test_det.py --run runs/small --data.test_split minival
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from commands.cli import run_tool, with_progress
from detection.inference.compact import compact
from detection.inference.detector import SPPDetector
from detection.inference.detector_file import Numbers, part_sizes
from files.image_folders import images_below
from files.images import read_image
from files.writing import refuse_inputs
from proposals.methods import Proposals

logger = logging.getLogger("export_det")


def main(
    run: str,
    file: str,
    rank: int | None = 256,
    numbers: Numbers = "int8",
    windows: Literal["selective_search", "edge_boxes", "both"] | None = None,
    images: str | None = None,
    limit: int = 20,
) -> None:
    """Write a small file of a run's detector.

    Args:
        run: folder of the run, or its detector's file.
        file: the small file.
        rank: of fc6, and half of fc7's; 'null' keeps the layers whole.
        numbers: int8 takes a quarter of float32's room.
        windows: the method that proposes windows from then on; without it as in the run.
        images: folder of images on which the small detector's scores are compared with the whole
            one's; without it sizes alone are printed.
        limit: compare on at most so many images.
    """
    found = [] if images is None else images_below(Path(images))[0]
    if images is not None and (not found or limit < 1):
        raise ValueError(f"{images} has {len(found)} images and limit is {limit}; 1 or more needed")
    path = Path(run) / "detector.safetensors" if Path(run).is_dir() else Path(run)
    refuse_inputs([Path(file)], [path])
    whole = SPPDetector.load(path)
    if windows is not None:
        whole = replace(whole, proposals=Proposals(method=windows))
    (whole if rank is None else compact(whole, rank)).save(file, numbers)
    print_sizes(path, Path(file))
    if found:
        compare(whole, SPPDetector.load(file), found[:limit])


def print_sizes(whole: Path, small: Path) -> None:
    """A table of bytes, whole and small, a line a part."""
    before, after = part_sizes(whole), part_sizes(small)
    print(f"{'part':<14}{'whole':>12}{'small':>12}  bytes")
    for part in before:
        print(f"{part:<14}{before[part]:>12,}{after.get(part, 0):>12,}")
    print(f"{'file':<14}{whole.stat().st_size:>12,}{small.stat().st_size:>12,}")


def compare(whole: SPPDetector, small: SPPDetector, images: list[Path]) -> None:
    """Print how far the small detector's scores and boxes lie from the whole one's.

    Of each image and class the best window of the whole detector counts.
    """
    scores, moves = [], []
    for image in with_progress(images, "comparing", len(images)):
        pixels = read_image(image)
        windows = whole.proposals(pixels)
        (before, boxes), (after, others) = (
            detector.score(pixels, windows) for detector in (whole, small)
        )
        one, two = next(iter(before.values())), next(iter(after.values()))
        best, classes = one.argmax(axis=0), np.arange(one.shape[1])
        scores.append(np.abs(one - two)[best, classes])
        moves.append(np.abs(boxes - others)[best, classes].max(axis=1))
    print(
        f"best window of each class in {len(images)} images: score differs by "
        f"{np.mean(scores):.4f} (mean), {np.max(scores):.4f} (most); "
        f"box by {np.mean(moves):.2f} (mean), {np.max(moves):.2f} pixels (most)"
    )


def run() -> None:
    """Call ``main`` with the flags of the command line."""
    run_tool(main, as_positional=True)
