"""Comparison with other detectors: examples, levels, rows."""

import importlib
import json

import numpy as np
import pytest
import torch
from paths import ROOT
from PIL import Image

from detection.data.records import Dataset, ImageRecord
from detection.networks.build import build_backbone


@pytest.fixture(autouse=True)
def _tools(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")


@pytest.fixture
def peers():
    return importlib.import_module("peers")


@pytest.fixture
def faster_rcnn():
    return importlib.import_module("faster_rcnn")


def test_a_mirrored_example_keeps_its_objects(faster_rcnn, tmp_path):
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[2:6, 3:10] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    boxes = np.array([[3, 2, 10, 6], [0, 0, 5, 5]], np.float32)
    record = ImageRecord(
        "a", tmp_path / "a.png", (20, 30), boxes, np.array([4, 0]), np.array([False, True])
    )
    for flip in (False, True):
        image, target = faster_rcnn.example(record, flip)
        assert target["labels"].tolist() == [5]
        x1, y1, x2, y2 = target["boxes"][0].int().tolist()
        assert image[:, y1:y2, x1:x2].min() == 1
        assert image.sum() == 3 * (y2 - y1) * (x2 - x1)


def test_levels_of_the_light_network(faster_rcnn):
    backbone = build_backbone("efficientnet_lite0", "random")
    levels = faster_rcnn.LiteLevels(backbone.trunk)(torch.zeros(1, 3, 64, 96))
    shapes = [tuple(each.shape[1:]) for each in levels.values()]
    channels = faster_rcnn.PEERS["efficientnet_lite0"].channels
    assert shapes == [(n, 64 // s, 96 // s) for n, s in zip(channels, (4, 8, 16, 32), strict=True)]


def test_smaller_draws_are_part_of_larger_ones():
    draw_of = importlib.import_module("few_images").draw_of
    ids = [f"image{number}" for number in range(40)]
    few, more = draw_of(ids, 10, 1), draw_of(ids, 25, 1)
    assert set(few) < set(more)
    assert few == sorted(few, key=ids.index)
    assert draw_of(ids, 40, 1) == ids
    assert draw_of(ids, 10, 2) != few


def test_a_row_of_ours(peers, tmp_path):
    run = tmp_path / "run"
    test = run / "test_test_5scales/fc7+bb"
    test.mkdir(parents=True)
    events = [("windows of train", 60), ("SVMs", 120), ("windows of test", 999), ("detection", 99)]
    lines = []
    for stage, seconds in events:
        times = {"time": "2026-01-01T00:00:00", "stage": stage}
        lines.append({"event": "begin", "images": 1} | times)
        lines.append({"event": "stage", "seconds": seconds, "peak_memory_mb": 7} | times)
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = {
        "data": {"root": "some/raccoon"},
        "trained": {"images": 90, "held_back": 10, "seed": 3},
        "map": 0.51234,
        "map_area": 0.5,
        "detection": {"seconds": 20.0},
        "images": 40,
    }
    (test / "results.json").write_text(json.dumps(result))
    peers.ours(run, minutes=3, csv=tmp_path / "table.csv")
    (row,) = peers.rows_of(tmp_path / "table.csv")
    assert (row["set"], row["images"], row["seed"], row["minutes"]) == (
        "raccoon",
        "90",
        "3",
        "3.0",
    )
    assert (row["ap"], row["test_seconds_an_image"]) == ("0.5123", "0.5")


def test_impossible_requests_are_refused(peers, faster_rcnn, tmp_path):
    with pytest.raises(FileNotFoundError, match="no test in"):
        peers.ours(tmp_path, csv=tmp_path / "table.csv")
    none = Dataset((), ("cat",))
    with pytest.raises(ValueError, match="0 training images are fewer than a batch of 2"):
        next(faster_rcnn.batches(none, 2, 0))
