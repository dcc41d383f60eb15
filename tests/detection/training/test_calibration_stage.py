import logging
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from made_detector import CLASSES, SIZE, made_detector, made_image, made_windows
from PIL import Image

from detection.config import Config
from detection.data.records import Dataset, ImageRecord
from detection.evaluation.voc_ap import match_image
from detection.features.extractor import SPPExtractor
from detection.machine import one_thread
from detection.networks.build import build_backbone
from detection.run import Run
from detection.training import calibration_stage as stage
from detection.training.calibration_stage import calibration_stage, outcomes

IMAGES = 4


@pytest.fixture(scope="module")
def detector():
    return made_detector(SPPExtractor(build_backbone("alexnet", "random"), (96,)))


@pytest.fixture
def world(detector, tmp_path):
    """Return images whose objects are the detector's six best detections, windows, and a run."""
    by_path, records = {}, []
    for number in range(IMAGES):
        path = tmp_path / f"{number}.png"
        Image.fromarray(made_image(number)).save(path)
        by_path[path] = made_windows(seed=number)
        found = detector.detect(made_image(number), by_path[path], -1e9)
        sure = found[np.argsort(-found.scores)[:6]]
        ids = np.zeros(len(sure), bool)
        records.append(ImageRecord(str(number), path, SIZE, sure.boxes, sure.labels, ids))
    windows = SimpleNamespace(load=by_path.__getitem__, method=SimpleNamespace(key="w", name="w"))
    config = Config(run=str(tmp_path / "run"), workers=1, device="cpu", scales=1)
    return SimpleNamespace(
        data=Dataset(tuple(records), CLASSES), windows=windows, run=Run(config), by_path=by_path
    )


def test_each_layer_is_calibrated_and_the_second_time_reused(detector, world, caplog):
    caplog.set_level(logging.INFO)
    made = calibration_stage(world.run, detector, world.data, world.windows)
    # The objects are the best detections by fc7, so its scores can be calibrated.
    assert "fc7" in made.calibration
    assert made.calibrated
    assert made.calibration["fc7"].slope_.shape == (len(CLASSES),)
    assert not (world.run.folder / "stages" / "held-back").exists()
    again = calibration_stage(world.run, detector, world.data, world.windows)
    assert "calibration: reused" in caplog.text
    for layer, sigmoids in made.calibration.items():
        np.testing.assert_array_equal(again.calibration[layer].slope_, sigmoids.slope_)
        np.testing.assert_array_equal(again.calibration[layer].offset_, sigmoids.offset_)
    page = (world.run.folder / "report.html").read_text()
    assert "on the 4 images held back" in page
    assert "Reliability of probabilities" not in page
    best = made.detect(world.data.records[0].path, made_windows(seed=0), 0)
    assert best.scores[0] > 0.5 > best.scores[-1]


def test_a_reused_calibration_brings_its_own_page(detector, world):
    """After another calibration in the folder, reusing the first one brings its page back."""
    calibration_stage(world.run, detector, world.data, world.windows)
    page = (world.run.folder / "report.html").read_text()
    fewer = replace(world.data, records=world.data.records[:3])
    calibration_stage(world.run, detector, fewer, world.windows)
    assert "on the 3 images held back" in (world.run.folder / "report.html").read_text()
    calibration_stage(world.run, detector, world.data, world.windows)
    assert (world.run.folder / "report.html").read_text() == page


def test_what_it_learns_from_is_the_metrics_own_matching(detector, world, monkeypatch):
    seen = []
    monkeypatch.setattr(stage, "outcomes", lambda result: seen.append(outcomes(result)) or seen[-1])
    calibration_stage(world.run, detector, world.data, world.windows)
    scores, labels, correct = seen[detector.layers.index("fc7")]
    expected = []
    for record in world.data.records:
        with one_thread():  # as where the stage searches images
            found = detector.detect(record.path, world.by_path[record.path], -1e9)
        for label in range(len(CLASSES)):
            mine, objects = found[found.labels == label], record.labels == label
            boxes, there = mine.boxes.astype(float), record.boxes[objects].astype(float)
            right, _ = match_image(boxes, there, np.zeros(len(there), bool))
            expected += zip(mine.scores.tolist(), [label] * len(mine), right.tolist(), strict=True)
    assert sorted(zip(scores.tolist(), labels.tolist(), correct.tolist(), strict=True)) == sorted(
        (float(score), label, bool(right)) for score, label, right in expected
    )


def test_difficult_objects_count_neither_way(detector, world):
    everything = replace(
        world.data.records[0], difficult=np.ones(len(world.data.records[0].labels), bool)
    )
    data = replace(world.data, records=(everything, *world.data.records[1:]))
    assert calibration_stage(world.run, detector, data, world.windows).calibrated


@pytest.mark.parametrize("few", ["no image", "no object", "one object"])
def test_too_little_is_held_back(detector, world, caplog, few):
    record = world.data.records[0]
    count = {"no image": 0, "no object": 0, "one object": 1}[few]
    cut = replace(
        record,
        boxes=record.boxes[:count],
        labels=record.labels[:count],
        difficult=record.difficult[:count],
    )
    records = () if few == "no image" else (cut,)
    held = replace(world.data, records=records)
    made = calibration_stage(world.run, detector, held, world.windows)
    assert not made.calibration
    assert made.display_threshold == -0.7
    said = [each.getMessage() for each in caplog.records if "stay raw" in each.getMessage()]
    assert len(said) == 1
    assert "--held_back" in said[0]
