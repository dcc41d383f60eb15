"""Test a trained detector on a split: VOC 2007 mAP, result files, a report page, drawn images.

    python tools/test_det.py --scales 5
    python tools/test_det.py --run runs/quickstart
    python tools/test_det.py --detection.layer fc6 --detection.bbox=false  # another cell

The settings are those the run was trained with; flags change them. A test's results go to a folder
of its own, named by what they depend on: <run>/test_<split>_<n>scales/fc7+bb_vote0.5/. The scored
windows lie beside it, for all tests. The last line printed is the mAP. Images that cannot be read
are left out and listed, with exit status 3.
"""

import logging
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from commands.cli import end, run_on_trained, with_progress
from detection.config import Config
from detection.data.reading import read_dataset
from detection.data.records import Dataset
from detection.data.windows import find_windows
from detection.detections import Detections
from detection.evaluation.coco_map import coco_ap50
from detection.evaluation.comp4 import from_images, write_comp4
from detection.evaluation.drawings import draw_detections
from detection.evaluation.plots import plot_precision_recall
from detection.evaluation.report import ap_columns, format_table, put_row, save_result
from detection.evaluation.voc_ap import VOCResult, check_objects, evaluate_voc
from detection.events import read_events, stage_seconds
from detection.inference.detector import SPPDetector
from detection.inference.testing import (
    folder_of_test,
    score_split,
    split_detections,
    stage_name,
)
from detection.machine import environment, fixed_threads
from detection.pages.detection_report import NAME, shown_by, write_report
from detection.run import Run, log_to
from detection.settings.data import Split
from files.images import read_image
from files.writing import file_digest, refuse_inputs

IMAGES = "images"

logger = logging.getLogger("test_det")


def main(config: Config) -> None:
    """Score the split's windows, evaluate, and write what was found."""
    run = Run(config, " ".join(sys.argv), with_progress)
    config = run.config
    fixed_threads()
    check_detector(run)
    detector = SPPDetector.load(
        run.detector_path,
        device=run.device,
        scales=config.scales,
        precision=config.precision,
        detection=config.detection,
    )
    logger.info("scores by %s", detector.layer)
    data = read_dataset(
        config.data,
        config.data.test_split,
        classes=detector.classes,
        limit=config.limit,
        strict=config.strict,
        kept=run.folder,
    )
    log_to(run.folder / "log.txt")
    run.sweep()
    check_objects(data.records, data.classes)
    windows, data = find_windows(run, config.data.test_split, data)
    folder = folder_of_test(run, detector, windows)
    written = [folder, folder / IMAGES, config.report.json, config.report.csv]
    refuse_inputs([each for each in written if each], [record.path for record in data.records])
    candidates = score_split(run, detector, data, windows)
    write_results(run, detector, data, folder, candidates, stage_name(detector, windows))
    end(data.unreadable)


def write_results(
    run: Run,
    detector: SPPDetector,
    data: Dataset,
    folder: Path,
    candidates: Mapping[str, Path],
    stage: str,
) -> None:
    """Evaluate, and write result files, drawings, tables and the page; print the table.

    Args:
        run: the run, whose settings say what is written.
        detector: of the run.
        data: the split.
        folder: of the test.
        candidates: folder of each layer's.
        stage: name of the scoring, for its time.
    """
    config = run.config
    with run.stage("evaluation"):
        found, result = measure(detector, data, candidates[detector.layer])
        shown = shown_by(detector, data.records, found)
        ap50 = coco_ap50(from_images(found, detector.classes), data.records, detector.classes)
    write_comp4(folder, config.data.test_split, found, detector.classes)
    plot_precision_recall(result, folder / "precision_recall.png")
    draw_images(folder / IMAGES, data, found, config.report.images, detector)
    facts = facts_of(run, detector, data, candidates[detector.layer], stage)
    facts |= {"ap50_pycocotools": ap50, "calibration": shown.reliability}
    save_result(folder / "results.json", result, facts)
    if config.report.json:
        save_result(config.report.json, result, facts)
    if config.report.csv is not None:
        fill_table(Path(config.report.csv), config, detector, data, candidates)
    write_report(
        folder / NAME,
        title=f"{run.folder.resolve().name} on {config.data.test_split}: {folder.name}",
        records=data.records,
        shown=shown,
        result=result,
        facts=facts,
        settings=asdict(config),
        events=read_events(run.folder),
    )
    print(f"result files, results.json, precision_recall.png and {IMAGES}/ are in {folder}")
    print(f"open {folder / NAME} in a browser to see where the detector fails")
    print(format_table(result, ap50))


def check_detector(run: Run) -> None:
    """Make sure that a run's detector is the one that its training left.

    Raises:
        ValueError: it is another's, or was changed.
    """
    trained = [event for event in read_events(run.folder) if event["event"] == "detector"]
    path = run.detector_path
    if trained and path.is_file() and file_digest(path) != trained[-1]["digest"]:
        raise ValueError(
            f"{path} is not the detector that the training of this run left, by its SHA-256; run "
            f"tools/train_det.py --run {run.folder} again, which makes it anew"
        )


def measure(
    detector: SPPDetector, data: Dataset, candidates: Path
) -> tuple[Mapping[str, Detections], VOCResult]:
    """Detections by image id, and their VOC result."""
    found = split_detections(detector, data, candidates)
    by_class = from_images(found, detector.classes)
    return found, evaluate_voc(by_class, data.records, detector.classes)


def fill_table(
    table: Path,
    config: Config,
    detector: SPPDetector,
    data: Dataset,
    candidates: Mapping[str, Path],
) -> None:
    """A row of the table for each layer, with and without box regression (paper, Table 9)."""
    trained = detector.trained
    train, test = trained["images"], config.limit
    for layer, folder in candidates.items():
        for bbox in (False, True):
            cell = replace(detector, detection=replace(detector.detection, bbox=bbox))
            _, result = measure(cell, data, folder)
            facts = {
                **network_facts(detector),
                "features": config.features,
                "scales": config.scales,
                "layer": layer,
                "bbox": str(bbox).lower(),
                "proposals": windows_name(detector.proposals.name, config.proposals.name),
                "train_split": trained["split"] + (f":{train}" if trained["limited"] else ""),
                "test_split": config.data.test_split + (f":{test}" if test else ""),
                "seed": trained["seed"],
            }
            averages = {"map": round(result.map, 4), "map_area": round(result.map_area, 4)}
            classes = ap_columns(result, facts | averages)
            put_row(table, facts | averages | classes, list(facts))
            logger.info("%s %s mAP %.4f", layer, "with bbox" if bbox else "without", result.map)


def network_facts(detector: SPPDetector) -> dict[str, str]:
    """How the network was trained, and what a test changed; empty where it changed nothing."""
    trained, detection = detector.trained, detector.detection
    precision, vote_iou = detector.extractor.precision, detection.vote_iou
    return {
        "network": trained["network"],
        "train_from": trained["train_from"],
        # Of detectors from before the loss on boxes was removed, with one.
        "boxes": trained.get("boxes", ""),
        "precision": "" if precision == trained["precision"] else precision,
        "fc_rank": "" if detection.fc_rank is None else str(detection.fc_rank),
        "vote_iou": "" if vote_iou is None else f"{vote_iou:g}",
        "bbox_passes": "" if detection.bbox_passes == 1 else str(detection.bbox_passes),
    }


def windows_name(trained: str, tested: str) -> str:
    """The windows in tables; both, where the detector was trained on others (paper 4.3)."""
    return tested if trained == tested else f"{trained} > {tested}"


def facts_of(
    run: Run, detector: SPPDetector, data: Dataset, candidates: Path, stage: str
) -> dict[str, Any]:
    """What makes the numbers a finding (command, data, machine, times), and its candidates.

    The time and memory of ``stage``, the scoring of the windows, stand by themselves too.
    """
    stages = stage_seconds(run.folder)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "command": run.command,
        "trained": detector.trained,
        "network": detector.extractor.backbone.name,
        "features": detector.extractor.facts,
        "scales": run.config.scales,
        "layer": detector.layer,
        "bbox": run.config.detection.bbox,
        "bbox_passes": run.config.detection.bbox_passes,
        "fc_rank": run.config.detection.fc_rank,
        "vote_iou": run.config.detection.vote_iou,
        "windows": run.config.proposals.name,
        "data": asdict(split_of(run.config)),
        "limit": run.config.limit,
        "test_split": run.config.data.test_split,
        "images": len(data.records),
        "unreadable": sorted(data.unreadable),
        "classes": list(detector.classes),
        "candidates": candidates.name,
        "stages": stages,
        "detection": stages.get(stage),
        "environment": environment(),
    }


def split_of(config: Config) -> Split:
    """Where a test's images lie."""
    data = config.data
    return Split(data.root, data.test_split, data.format, data.unlabelled, data.lists)


def draw_images(
    folder: Path,
    data: Dataset,
    found: Mapping[str, Detections],
    count: int,
    detector: SPPDetector,
) -> None:
    """Draw detections of images evenly spread over the split, with the ground truth.

    Args:
        folder: replaced; the drawing of ``day2/a.rf.1`` is ``day2/a.rf.1.jpg`` in it.
        data: the split.
        found: detections by image id.
        count: how many images are drawn.
        detector: tells which detections are worth drawing.
    """
    shutil.rmtree(folder, ignore_errors=True)
    step = max(len(data.records) // max(count, 1), 1)
    for record in data.records[::step][:count]:
        draw_detections(
            read_image(record.path),
            detector.shown(found[record.image_id]),
            folder / f"{record.image_id}.jpg",
            ground_truth=record,
        )


def run() -> None:
    """Call ``main`` with the flags of the command line."""
    run_on_trained(main)
