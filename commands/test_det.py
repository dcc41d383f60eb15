"""Test a trained detector on a split: VOC 2007 mAP, result files, a report page, drawn images.

    python tools/test_det.py --scales 5
    python tools/test_det.py --run runs/quickstart
    python tools/test_det.py --detection.layer fc6 --detection.bbox=false

A test uses the settings of the training, unless flags change them. Each test has its own folder for
results, named by its settings, such as <run>/test_<split>_<n>scales/fc7+bb_vote0.5/. The scored
windows are kept beside it, for all tests. The last line printed is the mAP. Images that cannot be
read are left out and listed, with exit status 3.
"""

import logging
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from commands.cli import end, log_to, run_on_trained, with_progress
from commands.table_rows import fill_table, measure
from detection.config import Config
from detection.data.reading import read_dataset
from detection.data.records import Dataset
from detection.data.windows import find_windows
from detection.detections import Detections
from detection.evaluation.coco_map import coco_ap50
from detection.evaluation.comp4 import from_images, write_comp4
from detection.evaluation.drawings import draw_detections
from detection.evaluation.plots import plot_precision_recall
from detection.evaluation.report import format_table, save_result
from detection.evaluation.voc_ap import check_objects
from detection.events import events_of_training, read_events, stage_seconds
from detection.inference.detector import SPPDetector
from detection.inference.testing import (
    folder_of_test,
    score_split,
    seen_in_training,
    stage_name,
)
from detection.leftovers import sweep
from detection.machine import environment, fixed_threads
from detection.pages.detection_report import NAME, shown_by, write_report
from detection.run import Run
from detection.settings.data import Split
from files.images import read_image
from files.writing import file_digest, refuse_folders, refuse_inputs

IMAGES = "images"

logger = logging.getLogger("test_det")


def main(config: Config) -> None:
    """Score the split's windows, evaluate, and write the results."""
    run = Run(config, " ".join(sys.argv), with_progress)
    config = run.config
    refuse_folders([config.report.json, config.report.csv])
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
    sweep(run.folder, run.cache)
    check_objects(data.records, data.classes)
    if seen := seen_in_training(run, data):
        logger.warning(
            "%d of the %d test images, such as %s, were used in training: results on them say "
            "nothing about other images",
            *(len(seen), len(data.records), seen[0]),
        )
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
        detector: the run's detector.
        data: the split.
        folder: folder of the test.
        candidates: folder of each layer's candidates.
        stage: name of the stage that scored the windows, for its time.
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
        events=events_of_training(run.folder),
    )
    print(f"result files, results.json, precision_recall.png and {IMAGES}/ are in {folder}")
    print(f"open {folder / NAME} in a browser to see where the detector fails")
    print(format_table(result, ap50))


def check_detector(run: Run) -> None:
    """Make sure that a run's detector is the one that its training wrote.

    Raises:
        ValueError: it comes from another training, or was changed.
    """
    trained = [event for event in read_events(run.folder) if event["event"] == "detector"]
    path = run.detector_path
    if trained and path.is_file() and file_digest(path) != trained[-1]["digest"]:
        raise ValueError(
            f"{path} is not the detector that this run's training wrote (SHA-256 differs); "
            "run the training command again to restore it"
        )


def facts_of(
    run: Run, detector: SPPDetector, data: Dataset, candidates: Path, stage: str
) -> dict[str, Any]:
    """Facts for results.json: command, data, machine, times, and the folder of candidates.

    ``detection`` repeats the time and memory of ``stage``, which scored the windows.
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
        "flip": run.config.detection.flip,
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
    """Where a test's images are."""
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
        folder: folder to replace; the drawing of ``day2/a.rf.1`` is ``day2/a.rf.1.jpg`` in it.
        data: the split.
        found: detections by image id.
        count: number of images to draw.
        detector: decides which detections are shown.
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
