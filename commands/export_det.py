"""Write a small file of a run's detector, and print the size of each part.

    python tools/export_det.py runs/voc07_minival_both small.safetensors
    python tools/export_det.py runs/mine mine.safetensors --rank 128 --numbers float32
    python tools/export_det.py runs/voc07_minival_both fast.safetensors --windows edge_boxes

fc6 and fc7 become products of thin layers (``--rank``), weights become 8-bit integers (``--numbers
int8``). The small file works wherever a detector's file does. To measure its mAP, in a new run:

    python tools/export_det.py runs/voc07_minival_both runs/small/detector.safetensors
    python tools/test_det.py --run runs/small --data.test_split minival
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from commands.cli import run_tool, with_progress
from commands.dispatch import command_of
from detection.inference.compact import compact
from detection.inference.detector import SPPDetector
from detection.inference.detector_file import Numbers, part_sizes
from files.image_folders import images_below
from files.images import read_image
from files.writing import refuse_folders, refuse_inputs
from proposals.methods import Proposals


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
        run: folder of the run, or the file of its detector.
        file: the small file to write.
        rank: rank of fc6; that of fc7 is twice as much. 'null' keeps the layers whole.
        numbers: number format of the weights; int8 takes a quarter of the space of float32.
        windows: the method that proposes windows for the small file, by default the run's.
        images: folder of images on which scores of the small and the whole detector are compared;
            without it only sizes are printed.
        limit: largest number of images to compare on.
    """
    found = [] if images is None else images_below(Path(images))[0]
    if images is not None and (not found or limit < 1):
        raise ValueError(f"{images} has {len(found)} images and limit is {limit}; 1 or more needed")
    path = Path(run) / "detector.safetensors" if Path(run).is_dir() else Path(run)
    refuse_folders([file])
    refuse_inputs([Path(file)], [path])
    whole = SPPDetector.load(path)
    if windows is not None:
        whole = replace(whole, proposals=Proposals(method=windows))
    (whole if rank is None else compact(whole, rank)).save(file, numbers)
    print_sizes(path, Path(file))
    if found:
        compare(whole, SPPDetector.load(file), found[:limit])
    print("next:", *command_of("detect"), "IMAGES", "--detector", file)


def print_sizes(whole: Path, small: Path) -> None:
    """Print a table of bytes, whole and small, a line per part."""
    before, after = part_sizes(whole), part_sizes(small)
    print(f"{'bytes of':<14}{'whole':>12}{'small':>12}")
    for part in before:
        print(f"{part:<14}{before[part]:>12,}{after.get(part, 0):>12,}")
    print(f"{'file':<14}{whole.stat().st_size:>12,}{small.stat().st_size:>12,}")


def compare(whole: SPPDetector, small: SPPDetector, images: list[Path]) -> None:
    """Print how much scores and boxes of the small detector differ from the whole detector's.

    For each image and class, the best window of the whole detector is compared.
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
