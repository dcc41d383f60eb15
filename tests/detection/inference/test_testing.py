"""A whole split scored by a detector: once, by several workers, and resumed."""

from dataclasses import asdict, replace

import joblib
import numpy as np
import pytest
from made_detector import (
    ALL,
    LAYERS,
    Counting,
    made_windows,
    scoring_by,
)

from detection.inference import testing
from detection.inference.detector import SPPDetector
from detection.inference.many_images import DetectorSource, detector_of_process
from detection.run import Run
from detection.settings.testing import Detection
from files.writing import file_digest


def test_a_split_is_scored_once_for_all_layers(detector, split):
    counting = Counting(detector)
    folders = testing.score_split(split.run, counting, split.data, split.windows)
    assert counting.scored == 2
    assert list(folders) == list(LAYERS)
    for layer, folder in folders.items():
        assert folder.parent.name == "test_test_1scales"
        assert folder.name.startswith(f"candidates-{layer}-")
    assert testing.score_split(split.run, counting, split.data, split.windows) == folders
    other = scoring_by(counting.detector, "softmax", bbox=False)
    assert testing.score_split(split.run, other, split.data, split.windows) == folders
    assert counting.scored == 2
    for layer, folder in folders.items():
        for bbox in (True, False):
            cell = scoring_by(detector, layer, bbox=bbox)
            found = testing.split_detections(cell, split.data, folder)
            assert found.keys() == {"000000", "000001"}
            for record in split.data.records:
                expected = cell.detect(record.path, made_windows(), ALL)
                np.testing.assert_array_equal(found[record.image_id].labels, expected.labels)
                close = found[record.image_id].scores, expected.scores
                np.testing.assert_allclose(*close, rtol=1e-4, atol=1e-4)


def test_another_pass_of_box_regression_is_scored_anew(detector, split):
    folders = testing.score_split(split.run, detector, split.data, split.windows)
    settings = replace(detector.detection, bbox_passes=2)
    twice = Counting(replace(detector, detection=settings))
    others = testing.score_split(split.run, twice, split.data, split.windows)
    assert twice.scored == 2
    assert not set(folders.values()) & set(others.values())
    assert "passes2" in testing.folder_of_test(split.run, twice, split.windows).name


def test_a_killed_test_resumes(detector, split):
    with pytest.raises(KeyboardInterrupt):
        testing.score_split(split.run, Counting(detector, 1), split.data, split.windows)
    counting = Counting(detector)
    testing.score_split(split.run, counting, split.data, split.windows)
    assert counting.scored == 1


def test_an_image_that_lacks_a_layer_is_scored_anew(detector, split):
    folders = testing.score_split(split.run, detector, split.data, split.windows)
    path, _ = testing.candidates_file(folders["fc6"], split.data.records[1])
    before = path.read_bytes()
    path.unlink()
    counting = Counting(detector)
    testing.score_split(split.run, counting, split.data, split.windows)
    assert counting.scored == 1
    assert path.read_bytes() == before


def test_workers_score_with_the_saved_detector(split, monkeypatch):
    """Threads stand in for processes, which would first have to import everything."""

    def threads(run, return_as):
        return joblib.Parallel(run.workers, return_as=return_as, backend="threading")

    monkeypatch.setattr(Run, "pool", threads)
    saved = SPPDetector.load(split.run.detector_path, scales=1)
    alone = testing.score_split(split.run, saved, split.data, split.windows)
    paths = [path for folder in alone.values() for path in folder.iterdir()]
    files = {path: path.read_bytes() for path in paths}
    assert len(files) == 2 * len(LAYERS)
    for path in paths:
        path.unlink()
    counting = Counting(saved)
    shared = Run(replace(split.run.config, workers=2))
    assert testing.score_split(shared, counting, split.data, split.windows) == alone
    assert counting.scored == 0
    assert {path: path.read_bytes() for path in paths} == files


def test_threads_beside_a_gpu_score_the_same(split, monkeypatch):
    detector = SPPDetector.load(split.run.detector_path, scales=1)
    folders = testing.score_split(split.run, detector, split.data, split.windows)
    files = {path: path.read_bytes() for folder in folders.values() for path in folder.iterdir()}
    for path in files:
        path.unlink()
    monkeypatch.setattr(Run, "_gpu", True)
    monkeypatch.setattr(testing, "_score_in_process", None)
    shared = Run(replace(split.run.config, workers=3))
    assert testing.score_split(shared, detector, split.data, split.windows) == folders
    assert {path: path.read_bytes() for path in files} == files


def test_a_process_loads_a_detector_once(detector, saved):
    def loaded():
        digest = file_digest(saved)
        return detector_of_process(DetectorSource(saved, digest, 1, "float32", Detection()))

    first = loaded()
    assert loaded() is first
    replace(detector, trained={"seed": 1}).save(saved)
    assert loaded().trained["seed"] == 1


def test_limits_after_suppression_need_no_network(detector, split):
    counting = Counting(detector)
    testing.score_split(split.run, counting, split.data, split.windows)
    other = Counting(replace(detector, detection=Detection(nms_iou=0.9, top_k=2)))
    folders = testing.score_split(split.run, other, split.data, split.windows)
    assert other.scored == 0
    found = testing.split_detections(other, split.data, folders["fc7"])
    assert len(found["000000"]) == 6


@pytest.mark.parametrize("change", [{"candidates": 5}, {"score_threshold": 0.0}])
def test_limits_before_suppression_are_scored_anew(detector, split, change):
    testing.score_split(split.run, detector, split.data, split.windows)
    settings = Detection(**(asdict(detector.detection) | change))
    counting = Counting(replace(detector, detection=settings))
    testing.score_split(split.run, counting, split.data, split.windows)
    assert counting.scored == 2
