"""test_det's table: a row for each layer, with and without box regression."""

import csv
import logging
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from commands import table_rows, tables, test_det
from detection.config import Config
from detection.data.records import Dataset, ImageRecord
from detection.detections import Detections
from detection.inference.detector import SPPDetector
from detection.inference.postprocess import Candidates
from detection.inference.testing import candidates_file
from detection.settings.data import Split
from detection.settings.testing import Detection, Report
from detection.settings.training import Finetune, Network
from detection.training.pipeline import training_facts
from detection.training.start import Start

CLASSES = ("cat", "dog")
LAYERS = ("pool5", "fc6", "softmax")
BOX, ASIDE = (10, 10, 50, 50), (60, 60, 90, 90)


@pytest.fixture
def data(tmp_path):
    """Return two images, each with a cat and a dog at the same two places."""
    records = []
    for number in range(2):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (100, 100), (number, 0, 0)).save(path)
        boxes = np.array([BOX, ASIDE], np.float32)
        records.append(
            ImageRecord(str(number), path, (100, 100), boxes, np.array([0, 1]), np.zeros(2, bool))
        )
    return Dataset(tuple(records), CLASSES)


@pytest.fixture
def candidates(tmp_path, data):
    """Write candidates; return their folders by layer. pool5 finds nothing. fc6 finds the cats in
    the right window, but box regression moves it away. softmax finds both in a wrong window, which
    box regression moves to the right place.
    """
    rows = {
        "pool5": [],
        "fc6": [(0, BOX, ASIDE)],
        "softmax": [(0, (0, 0, 5, 5), BOX), (1, (0, 0, 5, 5), ASIDE)],
    }
    folders = {}
    for layer, found in rows.items():
        folders[layer] = tmp_path / f"candidates-{layer}-0123"
        windows, boxes = (
            np.array([row[column] for row in found], np.float32).reshape(-1, 4) for column in (1, 2)
        )
        labels = np.array([row[0] for row in found], np.int64)
        scores = np.full(len(found), 0.5, np.float32)
        kept = Candidates(windows, boxes, scores, labels, len(CLASSES))
        for record in data.records:
            kept.save(*candidates_file(folders[layer], record))
    return folders


@pytest.fixture
def fill(tmp_path, data, candidates):
    """Fill the table; return its rows."""
    path = tmp_path / "docs" / "table.csv"

    def call(seed=0, limited=False, only=None, data=data, more=(), **changes):
        trained = {"network": "alexnet", "train_from": "conv3", **dict(more)}
        trained |= {"split": "train", "images": 9}
        trained |= {"limited": limited, "seed": seed, "precision": "float32"}
        # No network is needed, since the candidates are there.
        config = Config(**changes)
        extractor = SimpleNamespace(precision=config.precision)
        detector = SPPDetector(
            CLASSES, extractor, None, {}, None, detection=config.detection, trained=trained
        )
        chosen = {layer: candidates[layer] for layer in only or candidates}
        table_rows.fill_table(path, config, detector, data, chosen)
        with path.open(newline="") as file:
            return list(csv.DictReader(file))

    return call


def maps_of(rows):
    return {(row["layer"], row["bbox"]): float(row["map"]) for row in rows}


EXPECTED = {
    ("pool5", "false"): 0,
    ("pool5", "true"): 0,
    ("fc6", "false"): 0.5,
    ("fc6", "true"): 0,
    ("softmax", "false"): 0,
    ("softmax", "true"): 1,
}


def test_a_row_for_each_cell(fill):
    rows = fill()
    assert maps_of(rows) == EXPECTED
    assert list(rows[0].values())[:16] == [
        *("alexnet", "conv3", "", "", "", "", "", "", "spp", "5", "pool5", "false"),
        *(Config().proposals.name, "train", "test", "0"),
    ]
    columns = (
        "network train_from boxes precision fc_rank vote_iou bbox_passes flip features scales "
        "layer bbox proposals train_split test_split seed map map_area"
    )
    assert list(rows[0]) == [*columns.split(), *CLASSES]
    assert [row["cat"] for row in rows] == ["0.0", "0.0", "1.0", "0.0", "0.0", "1.0"]
    assert [row["dog"] for row in rows] == ["0.0", "0.0", "0.0", "0.0", "0.0", "1.0"]


def test_a_class_without_objects_has_no_number(fill, data):
    cats = [
        replace(one, boxes=one.boxes[:1], labels=one.labels[:1], difficult=one.difficult[:1])
        for one in data.records
    ]
    rows = fill(data=Dataset(tuple(cats), CLASSES))
    assert {row["dog"] for row in rows} == {"-"}
    assert [row["map"] for row in rows] == [row["cat"] for row in rows]
    assert maps_of(rows)["fc6", "false"] == 1


def test_columns_are_those_of_the_readme(fill, monkeypatch, tmp_path):
    fill()
    fill(scales=1)
    lines = tables.tests(tmp_path / "docs" / "table.csv").splitlines()
    assert len(lines) == 2 + 2
    for line in lines[2:]:
        assert line.endswith("| 0.0 / 0.0 | 50.0 / 0.0 | - | - | 0.0 / 100.0 |")


def test_the_same_cell_has_one_row(fill, data, candidates):
    first = fill()
    assert fill() == first
    # Now fc6 finds no cats: its row changes in its place.
    for record in data.records:
        none = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
        empty = Candidates(none[0], none[0], none[1], none[2], len(CLASSES))
        empty.save(*candidates_file(candidates["fc6"], record))
    second = fill(only=["fc6"])
    assert len(second) == len(first)
    assert maps_of(second) == EXPECTED | {("fc6", "false"): 0}
    assert [row["layer"] for row in second] == [row["layer"] for row in first]


def test_other_findings_have_rows_of_their_own(fill):
    number = len(fill())
    for change in (
        {"seed": 1},
        {"limited": True},
        {"scales": 1},
        {"limit": 2},
        {"features": "rcnn"},
        {"detection": Detection(fc_rank=8)},
        {"detection": Detection(vote_iou=0.5)},
        {"detection": Detection(vote_iou=0.4)},
        {"detection": Detection(vote_iou=0.4), "precision": "bfloat16"},
    ):
        rows = fill(**change)
        number += len(EXPECTED)
        assert len(rows) == number, change
    assert {row["seed"] for row in rows} == {"0", "1"}
    assert {row["train_split"] for row in rows} == {"train", "train:9"}
    assert {row["test_split"] for row in rows} == {"test", "test:2"}
    assert {row["features"] for row in rows} == {"spp", "rcnn"}
    assert {(row["precision"], row["fc_rank"], row["vote_iou"]) for row in rows} == {
        *(("", "", ""), ("", "8", ""), ("", "", "0.5"), ("", "", "0.4"), ("bfloat16", "", "0.4")),
    }


def test_a_training_of_before_with_a_loss_on_boxes_has_rows_of_its_own(fill):
    number = len(fill())
    rows = fill(more={"boxes": "ridge"})
    assert [row["boxes"] for row in rows] == [""] * number + ["ridge"] * number


def test_cells_are_logged(fill, caplog):
    caplog.set_level(logging.INFO)
    fill()
    said = [line for line in caplog.messages if " mAP " in line]
    assert said[2] == "fc6 without mAP 0.5000"
    assert said[5] == "softmax with bbox mAP 1.0000"
    assert len(said) == len(EXPECTED)


def test_facts_name_the_cell(tmp_path, data, candidates):
    extractor = type("Fake", (), {"facts": {"features": "fake"}})()
    extractor.backbone = type("Fake", (), {"name": "alexnet"})()
    layers = type("Fake", (), {"head": None, "has_softmax": False})()
    detector = SPPDetector(
        CLASSES, extractor, layers, {"pool5": None, "fc6": None}, None, trained={"seed": 3}
    )
    config = Config(run=str(tmp_path / "run"), scales=1)
    config = replace(config, detection=replace(config.detection, layer="fc6", bbox=False))
    run = test_det.Run(config, "python tools/test_det.py")
    for windows, seconds in (("edge_boxes", 7.0), ("both", 9.0)):
        run.event("begin", stage=f"detection on {windows}", images=2)
        run.event("stage", stage=f"detection on {windows}", seconds=seconds, peak_memory_mb=5)
    stage = "detection on edge_boxes"
    facts = test_det.facts_of(run, detector, data, candidates["fc6"], stage)
    assert facts["detection"] == {"seconds": 7.0, "peak_memory_mb": 5, "images": 2}
    assert len(facts["stages"]) == 2
    assert (facts["layer"], facts["bbox"], facts["scales"]) == ("fc6", False, 1)
    assert facts["candidates"] == "candidates-fc6-0123"
    assert facts["features"] == {"features": "fake"}
    assert facts["trained"] == {"seed": 3}
    assert (facts["images"], facts["unreadable"]) == (2, [])
    assert Split(**facts["data"]) == Split(split="test")


def test_facts_of_trainings(data):
    def facts(**changes):
        back = replace(data, records=data.records[:1])
        found = training_facts(Config(**changes), Start(Network(), None), data, back)
        assert found["held_back"] == 1
        return found["network"], found["train_from"]

    assert facts() == ("alexnet", "fc")
    assert facts(finetune=Finetune(train_from="conv3")) == ("alexnet", "conv3")


IDS = ("a.rf.1", "a.rf.2", "day2/a.rf.1", "图")


@pytest.fixture
def named(tmp_path, data):
    """Write images whose ids have dots and subfolders; nothing is found in them."""
    records, folder = [], tmp_path / "data/JPEGImages"
    for name in IDS:
        path = folder / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 100), "red").save(path)
        records.append(replace(data.records[0], image_id=name, path=path))
    named = Dataset(tuple(records), CLASSES)
    return SimpleNamespace(
        data=named, folder=folder, found=dict.fromkeys(IDS, Detections.empty(CLASSES))
    )


def test_drawings_are_named_by_the_whole_id(named, tmp_path):
    folder, detector = tmp_path / "run/images", SimpleNamespace(shown=lambda found: found)
    (folder / "old").mkdir(parents=True)
    test_det.draw_images(folder, named.data, named.found, len(IDS), detector)
    drawn = sorted(path for path in folder.rglob("*") if path.is_file())
    assert drawn == sorted(folder / f"{name}.jpg" for name in IDS)
    assert not (folder / "old").exists()


def test_what_the_detector_shows_is_drawn(named, tmp_path, monkeypatch):
    """Drawings show a calibrated detector's probabilities; the metric uses the raw scores."""
    seen, shown = [], Detections.empty(CLASSES)
    monkeypatch.setattr(
        test_det, "draw_detections", lambda image, found, *_, **__: seen.append(found)
    )
    detector = SimpleNamespace(shown=lambda found: shown)
    test_det.draw_images(tmp_path / "run/images", named.data, named.found, 2, detector)
    assert [found is shown for found in seen] == [True, True]


@pytest.mark.parametrize("change", ["the folder", "a link to it", "the table"])
def test_nothing_is_written_over_an_image(named, tmp_path, monkeypatch, change):
    run = tmp_path / "run"
    folder = run / "test_test_1scales/fc7+bb"
    record, changes = named.data.records[0], {}
    if change == "the folder":  # the images lie where a test writes its drawings
        folder.mkdir(parents=True)
        named.folder.rename(folder / "images")
        moved = [
            replace(one, path=folder / "images" / one.path.relative_to(named.folder))
            for one in named.data.records
        ]
        named.data = replace(named.data, records=tuple(moved))
        record = moved[0]
    elif change == "a link to it":
        folder.mkdir(parents=True)
        (folder / "images").symlink_to(named.folder, target_is_directory=True)
    else:
        changes = {"report": Report(json=str(record.path))}
    before = record.path.read_bytes()
    detector = SimpleNamespace(layer="fc7", classes=CLASSES)
    monkeypatch.setattr(test_det.SPPDetector, "load", lambda *_, **__: detector)
    monkeypatch.setattr(test_det, "read_dataset", lambda *_, **__: named.data)
    monkeypatch.setattr(test_det, "find_windows", lambda *_: (None, named.data))
    monkeypatch.setattr(test_det, "folder_of_test", lambda *_: folder)
    monkeypatch.setattr(test_det, "score_split", None)
    with pytest.raises(ValueError, match="it is or holds an input image"):
        test_det.main(Config(run=str(run), scales=1, **changes))
    assert record.path.read_bytes() == before


def test_a_split_without_objects_is_refused_before_it_is_scored(named, monkeypatch):
    none = [replace(one, difficult=np.ones(2, bool)) for one in named.data.records]
    detector = SimpleNamespace(layer="fc7", classes=CLASSES)
    monkeypatch.setattr(test_det.SPPDetector, "load", lambda *_, **__: detector)
    monkeypatch.setattr(
        test_det, "read_dataset", lambda *_, **__: replace(named.data, records=tuple(none))
    )
    monkeypatch.setattr(test_det, "find_windows", None)
    with pytest.raises(ValueError, match="none of the 4 images has an object that counts"):
        test_det.main(Config(run=str(named.folder.parent / "run"), scales=1))
