"""Time SPP-net at five scales and at one against R-CNN, image by image, in one run.

    python tools/benchmark.py --data.split test --out docs/results/benchmark.json

Every method has the same windows, network, fc layers and SVMs (random weights, as time does not
depend on them). The methods take turns, in a new random order for each image. R-CNN runs as its
users run it: float32, batches of the best size, every window. SPP-net runs with its options:
bfloat16, fc6 and fc7 truncated (mAP at that rank: docs/results/voc07_table.csv). ``_whole`` does
not truncate. ``_plain`` is the like-for-like comparison: float32, every window pooled by itself,
one pooling per level. ``end_to_end`` is from an image's file to boxes: reading, windows, detection.

Where the processor has no bfloat16 instructions, all methods are in float32, and those that have
become equal are timed once.
"""

import json
import logging
import multiprocessing
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.models.detection import fasterrcnn_resnet50_fpn

from commands.cli import run_tool, with_progress
from commands.timed_methods import Method, make, native_methods
from detection.config import Config
from detection.data.reading import read_dataset
from detection.data.records import ImageRecord
from detection.data.synthetic.dataset import write_synthetic_voc
from detection.evaluation.timing import (
    PHASES,
    convolution_operations,
    matrix_rate,
    time_image,
)
from detection.features.rcnn import CROP
from detection.features.resizing import resized_size
from detection.features.scales import SCALES
from detection.inference.detector import SPPDetector
from detection.machine import environment, peak_memory_mb
from detection.run import Run
from detection.settings.data import Split
from files.images import read_image
from files.writing import refuse_folders, save_text
from proposals import Proposals

logger = logging.getLogger(__name__)

PAPER = {
    "conv_5_scales": 49,
    "conv_1_scale": 270,
    "total_5_scales": "24 to 38",
    "total_1_scale": "64 to 102",
}


def main(
    data: Split = Split(),  # noqa: B008 - frozen
    limit: int = 10,
    hidden: int = 4096,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    proposals: Proposals = Proposals(),  # noqa: B008 - frozen
    out: Path | None = None,
) -> None:
    """Time the methods and print medians and ratios.

    Args:
        data: the images; synthetic ones if data.root is missing.
        limit: use only the first so many images of the split.
        hidden: width of fc6 and fc7.
        device: where networks run; 'auto' uses a CUDA device if there is one.
        proposals: windows (region proposals).
        out: file for the results.
    """
    refuse_folders([out])
    records = some_images(data, limit)
    windows, seconds = timed_windows(proposals, records)
    place = Run(Config(device=device)).device
    methods = native_methods(place)
    detectors = {method: make(method, hidden, place) for method in dict.fromkeys(methods.values())}
    measured = measure(detectors, records, windows)
    times = {name: measured[method] for name, method in methods.items()}
    times["faster_rcnn_resnet50_fpn"] = {"total": faster_rcnn(records[:3], place)}
    times["proposals"] = {"total": median(seconds)}
    sizes = [record.size for record in records]
    result = {
        "command": " ".join(sys.argv),
        "date": time.strftime("%Y-%m-%d"),
        "environment": environment(),
        "images": len(records),
        "windows": float(np.mean([len(each) for each in windows])),
        "seconds": times,
        "end_to_end": {
            name: end_to_end(replace(detectors[methods[name]], proposals=proposals), records)
            for name in ("spp_5_scales", "spp_1_scale")
        },
        "ratios": ratios(times, "rcnn", "spp_5_scales", "spp_1_scale"),
        "ratios_like_for_like": ratios(times, "rcnn", "spp_5_scales_plain", "spp_1_scale_plain"),
        "ratios_whole_fc": ratios(times, "rcnn", "spp_5_scales_whole", "spp_1_scale_whole"),
        "ratios_same_precision": ratios(
            times, "rcnn_bfloat16", "spp_5_scales_whole", "spp_1_scale_whole"
        ),
        "ratios_paper": PAPER,
        "arithmetic": arithmetic(methods, detectors, sizes, windows, times, place),
        "peak_memory_mb": {
            name: peak_of((methods[name], hidden, place), records[0], windows[0])
            for name in ("spp_5_scales", "spp_1_scale", "rcnn")
        },
    }
    show(result)
    if out is not None:
        save_text(out, json.dumps(result, indent=2) + "\n")


def some_images(data: Split, count: int) -> list[ImageRecord]:
    """The first images of the split, or synthetic images if there is no data."""
    if not Path(data.root).exists():
        logger.info("no data at %s: using synthetic images", data.root)
        data = Split("data/synthetic", "test")
        if not Path(data.root).exists():
            write_synthetic_voc(Path(data.root), train=48, test=24, seed=0)
    return list(read_dataset(data, data.split, limit=count).records)


def timed_windows(
    proposals: Proposals, records: list[ImageRecord]
) -> tuple[list[NDArray[np.float32]], list[float]]:
    """Windows ``(P, 4)`` of each image, and the seconds that they took."""
    windows, seconds = [], []
    for record in with_progress(records, "windows", len(records)):
        start = time.perf_counter()
        windows.append(proposals(read_image(record.path)))
        seconds.append(time.perf_counter() - start)
    return windows, seconds


def measure(
    detectors: dict[Method, SPPDetector],
    records: list[ImageRecord],
    windows: list[NDArray[np.float32]],
) -> dict[Method, dict[str, float]]:
    """Median seconds per image of each method's phases, after a warm-up on the first image.

    On a GPU every image has a warm-up, as cuDNN chooses its algorithms when it first sees a size.
    Methods are shuffled for each image: pooling took twice as long when it always followed R-CNN.
    """
    methods = list(detectors)
    seconds: dict[Method, list[dict[str, float]]] = {method: [] for method in methods}
    order = [0, *range(len(records))]
    rng = np.random.default_rng(0)
    for turn, number in enumerate(with_progress(order, "images", len(order))):
        image = read_image(records[number].path)
        for method in map(methods.__getitem__, rng.permutation(len(methods))):
            detector = detectors[method]
            if detector.extractor.device.type == "cuda":
                time_image(detector, image, windows[number])
            found = time_image(detector, image, windows[number])
            if turn:
                seconds[method].append(found)
    return {
        method: {phase: median(one[phase] for one in each) for phase in (*PHASES, "total")}
        for method, each in seconds.items()
    }


def ratios(times: dict[str, dict[str, float]], rcnn: str, five: str, one: str) -> dict[str, float]:
    """How many times longer R-CNN takes, without the time for windows, as in the paper."""
    return {
        f"{phase}_{scales}": times[rcnn][phase] / times[name][phase]
        for phase in ("conv", "total")
        for scales, name in (("5_scales", five), ("1_scale", one))
    }


def arithmetic(
    methods: dict[str, Method],
    detectors: dict[Method, SPPDetector],
    sizes: list[tuple[int, int]],
    windows: list[NDArray[np.float32]],
    times: dict[str, dict[str, float]],
    device: torch.device,
) -> dict[str, Any]:
    """Operations of the convolutions per image, and their rate as a share of a matrix product's."""
    precisions = dict.fromkeys(method.precision for method in methods.values())
    rates = {precision: matrix_rate(precision, device) for precision in precisions}
    found: dict[str, Any] = {f"matrix_gflops_{name}": rate / 1e9 for name, rate in rates.items()}
    for name, method in methods.items():
        features, scales, precision, _ = method
        detector = detectors[method]
        if features == "rcnn":
            one = convolution_operations(detector.extractor.trunk, [(CROP, CROP)])
            operations = one * float(np.mean([len(each) for each in windows]))
        else:
            wanted = [resized_size(size, scale) for size in sizes for scale in SCALES[scales]]
            operations = convolution_operations(detector.extractor.trunk, wanted) / len(sizes)
        rate = operations / times[name]["conv"]
        found[name] = {
            "conv_gflop": operations / 1e9,
            "share_of_matrix_rate": rate / rates[precision],
        }
    return found


def faster_rcnn(records: list[ImageRecord], device: torch.device) -> float:
    """Median seconds per image of torchvision's Faster R-CNN; random weights suffice for timing."""
    network = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).eval().to(device)
    seconds = []
    with torch.inference_mode():
        for record in records:
            image = torch.from_numpy(read_image(record.path).copy()).permute(2, 0, 1) / 255
            start = time.perf_counter()
            network([image.to(device)])[0]["boxes"].cpu()
            seconds.append(time.perf_counter() - start)
    return median(seconds)


def end_to_end(detector: SPPDetector, records: list[ImageRecord]) -> float:
    """Median seconds from an image's file to its detections, windows included."""
    seconds = []
    for record in (records[0], *records):
        start = time.perf_counter()
        detector.search(read_image(record.path))
        seconds.append(time.perf_counter() - start)
    return median(seconds[1:])


def peak_of(maker: tuple[Any, ...], record: ImageRecord, windows: NDArray[np.float32]) -> int:
    """Peak memory in MB of a new process that detects in one image; on a GPU, the GPU's memory."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (maker, record, windows))


def _peak(maker: tuple[Any, ...], record: ImageRecord, windows: NDArray[np.float32]) -> int:
    make(*maker).search(read_image(record.path), windows)
    if maker[-1].type == "cuda":
        return torch.cuda.max_memory_allocated() >> 20
    return peak_memory_mb()


def show(result: dict[str, Any]) -> None:
    """Print the medians, then the ratios."""
    print(f"{'seconds an image':<26}" + "".join(f"{phase:>9}" for phase in (*PHASES, "total")))
    for name, phases in result["seconds"].items():
        cells = (f"{phases[p]:9.3f}" if p in phases else f"{'-':>9}" for p in (*PHASES, "total"))
        print(f"{name:<26}" + "".join(cells))
    for name, seconds in result["end_to_end"].items():
        print(f"{name}, file to boxes: {seconds:.3f}")
    for kind in (each for each in result if each.startswith("ratios")):
        ratios = "  ".join(
            f"{name} {value:.1f}" if isinstance(value, float) else f"{name} {value}"
            for name, value in result[kind].items()
        )
        print(f"{kind}: {ratios}")


def run() -> None:
    """Call ``main`` with the flags of the command line."""
    run_tool(main)
