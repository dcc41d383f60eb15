"""The detector's file: saved and loaded, with other settings, and which files are refused."""

import json

import numpy as np
import pytest
from made_detector import (
    ALL,
    LAYERS,
    assert_same,
    made_detector,
    made_image,
    made_windows,
    scoring_by,
)
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from detection.config import Detection
from detection.features.extractor import SPPExtractor
from detection.features.rcnn import RCNNExtractor
from detection.inference.detector import SPPDetector
from detection.inference.detector_file import FORMAT
from detection.inference.layers import LayerFeatures
from detection.networks.build import build_backbone
from files.artefacts import read_artefact, write_artefact
from files.writing import file_digest


@pytest.fixture(scope="module")
def backbone():
    return build_backbone("alexnet", "random")


@pytest.fixture(scope="module")
def detector(backbone):
    return made_detector(SPPExtractor(backbone, (96, 128)))


@pytest.fixture(scope="module")
def headless(backbone):
    """SVMs on pool5, and no fc layer."""
    return made_detector(SPPExtractor(backbone, (96,)), hidden=None)


@pytest.fixture(scope="module")
def rcnn(backbone):
    """The same with R-CNN's features."""
    return made_detector(RCNNExtractor(backbone), hidden=None)


@pytest.fixture
def saved(detector, tmp_path):
    path = tmp_path / "detector.safetensors"
    detector.save(path)
    return path


def test_saved_and_loaded(detector, saved):
    loaded = SPPDetector.load(saved)
    assert_same(
        loaded.detect(made_image(), made_windows(), ALL),
        detector.detect(made_image(), made_windows(), ALL),
    )
    assert_same(loaded.detect(made_image()), detector.detect(made_image()))
    assert loaded.extractor.scales == (96, 128)
    assert loaded.proposals == detector.proposals
    assert loaded.detection == detector.detection
    assert loaded.trained == detector.trained
    assert loaded.layers == detector.layers
    for layer in LAYERS:
        assert_same(
            scoring_by(loaded, layer).detect(made_image(), made_windows(), ALL),
            scoring_by(detector, layer).detect(made_image(), made_windows(), ALL),
        )
    assert loaded.extractor.backbone.digest == detector.extractor.backbone.digest


@pytest.mark.parametrize("features", ["spp", "rcnn"])
def test_saved_and_loaded_without_a_head(headless, rcnn, tmp_path, features):
    made = {"spp": headless, "rcnn": rcnn}[features]
    path = tmp_path / "detector.safetensors"
    made.save(path)
    loaded = SPPDetector.load(path)
    assert loaded.features.head is None
    assert loaded.layers == ("pool5",)
    assert loaded.extractor.facts == made.extractor.facts
    assert loaded.extractor.facts["features"] == features
    assert loaded.features.factors == made.features.factors
    windows = made_windows(8)
    found = loaded.detect(made_image(), windows, ALL)
    assert len(found)
    assert_same(found, made.detect(made_image(), windows, ALL))
    loaded.save(tmp_path / "again")
    assert file_digest(tmp_path / "again") == file_digest(path)
    assert not [name for name in load_file(path) if name.startswith("head.")]


def test_rcnn_knows_no_scales(rcnn, tmp_path):
    rcnn.save(tmp_path / "detector")
    loaded = SPPDetector.load(tmp_path / "detector", scales=5, precision="bfloat16")
    assert isinstance(loaded.extractor, RCNNExtractor)
    assert loaded.extractor.scales == ()
    windows = made_windows(6)
    exact, rough = (each.score(made_image(), windows)[0]["pool5"] for each in (rcnn, loaded))
    assert 0 < np.abs(exact - rough).max() < 0.1 * np.abs(exact).max()


def test_what_is_saved_is_the_same_each_time(detector, saved, tmp_path):
    detector.save(tmp_path / "again")
    SPPDetector.load(saved).save(tmp_path / "loaded")
    for name in ("again", "loaded"):
        assert file_digest(tmp_path / name) == file_digest(saved)


def test_other_programs_can_read_the_settings(saved):
    with safe_open(saved, "pt") as file:
        (entry,) = file.metadata().values()
    said = json.loads(entry)
    assert said["key"] == "sppnet-detection 5"
    assert said["facts"]["classes"] == ["cat", "dog", "sheep"]


def test_loaded_with_other_settings(detector, saved):
    loaded = SPPDetector.load(saved, scales=1, detection=Detection(top_k=1))
    assert loaded.extractor.scales == (688,)
    found = loaded.detect(made_image(), made_windows(), ALL)
    assert sorted(found.labels) == [0, 1, 2]
    near = SPPDetector.load(saved, precision="bfloat16")
    assert near.extractor.precision == "bfloat16"
    pooled = near.extractor.features(made_image(), made_windows()).pooled
    halved = LayerFeatures(detector.features.head, detector.features.factors, "bfloat16")
    for layer, expected in halved(pooled, ("pool5", "fc6", "fc7", "softmax")).items():
        np.testing.assert_array_equal(near.features(pooled, [layer])[layer], expected)
    exact, rough = (
        each.score(made_image(), made_windows(), LAYERS)[0] for each in (detector, near)
    )
    for layer in LAYERS:
        spread = exact[layer].std()
        assert 0 < np.abs(exact[layer] - rough[layer]).max() < 0.2 * spread, layer


def test_loaded_with_truncated_layers(detector, saved):
    windows, image = made_windows(), made_image()
    exact, boxes = detector.score(image, windows, LAYERS)
    for rank, close in ((16, 1e-4), (15, 0.5)):
        loaded = SPPDetector.load(saved, detection=Detection(fc_rank=rank))
        found, same = loaded.score(image, windows, LAYERS)
        np.testing.assert_allclose(same, boxes, rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(found["pool5"], exact["pool5"], rtol=1e-5, atol=1e-4)
        for layer in ("fc6", "fc7", "softmax"):
            np.testing.assert_allclose(found[layer], exact[layer], atol=close)


@pytest.mark.parametrize("scales", [3, 0, -1])
def test_a_number_of_scales_that_there_is_not(saved, scales):
    message = f"scales must be 1 or 5, or None for those of training; got {scales}"
    with pytest.raises(ValueError, match=message):
        SPPDetector.load(saved, scales=scales)


def test_a_missing_detector(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no detector at .*; python tools/train_det.py"):
        SPPDetector.load(tmp_path / "detector.safetensors")
    with pytest.raises(FileNotFoundError, match="no detector at"):
        SPPDetector.load(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "header", "empty", "text", "zeros", "flipped"])
def test_a_damaged_detector(saved, damage):
    whole = saved.read_bytes()
    parts = {
        "cut": whole[:-1000],
        "header": whole[:100],
        "empty": b"",
        "text": b"hello\n" * 99,
        "zeros": whole[:-1000] + bytes(1000),
        "flipped": whole[:-3] + bytes([whole[-3] ^ 4]) + whole[-2:],
    }
    saved.write_bytes(parts[damage])
    with pytest.raises(ValueError, match=rf"{saved} is not a detector: it is damaged .*run's det"):
        SPPDetector.load(saved)


@pytest.mark.parametrize("lost", ["classes", "hidden", "proposals", "detection", "network"])
def test_a_detector_without_one_of_its_settings(saved, lost):
    found = read_artefact(saved, FORMAT)
    facts = {name: value for name, value in found.facts.items() if name != lost}
    write_artefact(saved, FORMAT, found.arrays, facts)
    with pytest.raises(ValueError, match=rf"{saved} is not a detector of this version .*{lost}"):
        SPPDetector.load(saved)


def test_a_detector_without_one_of_its_arrays(saved):
    found = read_artefact(saved, FORMAT)
    for lost in found.arrays:
        rest = {name: array for name, array in found.arrays.items() if name != lost}
        write_artefact(saved, FORMAT, rest, found.facts)
        with pytest.raises(ValueError, match=rf"{saved} is not a detector of this version"):
            SPPDetector.load(saved)


@pytest.mark.parametrize("metadata", [None, {"settings": '{"format": "sppnet-detection 4"}'}])
def test_another_safetensors_file(tmp_path, metadata):
    path = tmp_path / "other.safetensors"
    save_file({"weights": np.zeros(3, np.float32)}, path, metadata)
    with pytest.raises(ValueError, match=rf"{path} is not a detector: it is of another version"):
        SPPDetector.load(path)


def test_another_artefact(tmp_path):
    path = tmp_path / "svms.safetensors"
    write_artefact(path, "0123", {"weights": np.zeros(3, np.float32)})
    message = rf"{path} is not a detector: it is of something else \(key 0123, expected sppnet-det"
    with pytest.raises(ValueError, match=message):
        SPPDetector.load(path)
