"""A test's rows in docs/results/voc07_table.csv: each layer, with and without box regression."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from detection.config import Config
from detection.data.records import Dataset
from detection.detections import Detections
from detection.evaluation.average_precision import VOCResult
from detection.evaluation.comp4 import from_images
from detection.evaluation.report import ap_columns, put_row
from detection.evaluation.voc_ap import evaluate_voc
from detection.inference.detector import SPPDetector
from detection.inference.testing import split_detections

logger = logging.getLogger("test_det")


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
    """Add a row for each layer, with and without box regression (paper, Table 9)."""
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
                "train_split": trained["split"]
                + ("+mirrored" if trained.get("mirrored") else "")
                + (f":{train}" if trained["limited"] else ""),
                "test_split": config.data.test_split + (f":{test}" if test else ""),
                "seed": trained["seed"],
            }
            averages = {"map": round(result.map, 4), "map_area": round(result.map_area, 4)}
            classes = ap_columns(result, facts | averages)
            put_row(table, facts | averages | classes, list(facts))
            logger.info("%s %s mAP %.4f", layer, "with bbox" if bbox else "without", result.map)


def network_facts(detector: SPPDetector) -> dict[str, str]:
    """How the network was trained, and what a test changed; empty if it changed nothing."""
    trained, detection = detector.trained, detector.detection
    precision, vote_iou = detector.extractor.precision, detection.vote_iou
    return {
        "network": trained["network"],
        "train_from": trained["train_from"],
        # Only older detectors have it, from before the loss on boxes was removed.
        "boxes": trained.get("boxes", ""),
        "precision": "" if precision == trained["precision"] else precision,
        "fc_rank": "" if detection.fc_rank is None else str(detection.fc_rank),
        "vote_iou": "" if vote_iou is None else f"{vote_iou:g}",
        "bbox_passes": "" if detection.bbox_passes == 1 else str(detection.bbox_passes),
        "flip": "true" if detection.flip else "",
    }


def windows_name(trained: str, tested: str) -> str:
    """The windows' name in tables: two names if the detector was trained on others (paper 4.3)."""
    return tested if trained == tested else f"{trained} > {tested}"
