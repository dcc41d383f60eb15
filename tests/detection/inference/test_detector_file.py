"""The detector's file: saved and loaded, whole or small, and with other settings."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_detector import (
    ALL,
    LAYERS,
    SIZE,
    assert_same,
    calibrated,
    made_detector,
    made_image,
    made_windows,
    scoring_by,
)
from safetensors import safe_open
from safetensors.numpy import load_file

from detection.features.rcnn import RCNNExtractor
from detection.inference.compact import compact
from detection.inference.detector import SPPDetector
from detection.inference.detector_file import part_sizes, quantised, restored, shipped
from detection.inference.layers import LayerFeatures
from detection.settings.testing import Detection
from files.writing import file_digest


@pytest.fixture(scope="module")
def rcnn(backbone):
    """Return a detector with R-CNN's features and without fc layers."""
    return made_detector(RCNNExtractor(backbone), hidden=None)


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
    assert said["key"] == "sppnet-detection 6"
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


def test_whole_numbers_are_half_a_step_away():
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "head.fc6.weight": torch.randn(5, 40, generator=generator)
        * torch.logspace(-6, 2, 5)[:, None],
        "trunk.0.weight": torch.randn(3, 2, 4, 4, generator=generator),
        "bbox.weights": torch.zeros(4, 6),
        "head.fc6.bias": torch.randn(5, generator=generator),
        "svm.fc7.weights": torch.randn(2, 3, generator=generator),
    }
    packed = quantised(tensors)
    found = restored(packed)
    assert set(found) == set(tensors)
    for name, value in tensors.items():
        assert found[name].shape == value.shape
        if name in ("head.fc6.bias", "svm.fc7.weights"):
            assert torch.equal(found[name], value)
            continue
        assert packed[name].dtype == torch.int8
        rows, near = value.flatten(1), found[name].flatten(1)
        step = rows.abs().amax(dim=1, keepdim=True) / 127
        assert ((rows - near).abs() <= step * 0.501).all()
    assert all(torch.equal(each, quantised(found)[name]) for name, each in packed.items())


def test_a_small_file_finds_nearly_the_same(detector, saved, tmp_path):
    small = tmp_path / "small.safetensors"
    made = compact(detector, 14)
    made.save(small, "int8")
    loaded = SPPDetector.load(small)
    assert loaded.layers == detector.layers
    windows, image = made_windows(), made_image()
    exact, boxes = detector.score(image, windows, LAYERS)
    found, near = loaded.score(image, windows, LAYERS)
    for layer in LAYERS:
        spread = exact[layer].std()
        assert 0 < np.abs(found[layer] - exact[layer]).max() < 0.5 * spread, layer
    assert np.abs(near - boxes).max() < 1
    whole_sizes, small_sizes = part_sizes(saved), part_sizes(small)
    assert small_sizes["trunk"] < 0.26 * whole_sizes["trunk"]
    assert "responses" not in small_sizes
    loaded.save(tmp_path / "again", "int8")
    assert file_digest(tmp_path / "again") == file_digest(small)


def test_a_small_detector_is_not_made_smaller(detector, headless, saved):
    small = compact(detector, 4)
    for made in (small, headless):
        with pytest.raises(ValueError, match="no whole fc layers to truncate"):
            compact(made, 2)
    for rank in (4, 5):
        assert compact(small, rank) is small
    small.save(saved)
    with pytest.raises(ValueError, match=r"already have rank 4 .* leave out --detection.fc_rank"):
        SPPDetector.load(saved, detection=Detection(fc_rank=2))
    near = SPPDetector.load(saved, precision="bfloat16")
    assert len(near.detect(made_image(), made_windows(), ALL))


def test_a_calibrated_detector_shows_probabilities(detector, saved):
    made = calibrated(detector)
    raw = detector.detect(made_image(), made_windows(), ALL)
    shown = made.detect(made_image(), made_windows(), 0)
    assert len(shown) == len(raw)
    assert ((shown.scores > 0) & (shown.scores < 1)).all()
    assert (np.diff(shown.scores) <= 0).all()
    for label in range(len(detector.classes)):
        one, two = raw[raw.labels == label], shown[shown.labels == label]
        np.testing.assert_array_equal(one.boxes, two.boxes)
    assert made.display_threshold == 0.5
    assert (made.detect(made_image(), made_windows()).scores > 0.5).all()
    made.save(saved)
    assert_same(SPPDetector.load(saved).detect(made_image(), made_windows(), 0), shown)
    # The detections that the metric takes keep their raw scores.
    candidates = made.candidates(made_image(), made_windows())["fc7"]
    assert_same(made.finish(candidates, SIZE), detector.finish(candidates, SIZE))


def test_raw_scores_give_one_warning_per_detector(detector, saved):
    for made in (SPPDetector.load(saved), replace(detector)):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for _ in range(2):
                made.detect(made_image(), made_windows())
        (said,) = told
        assert "scores are raw, not probabilities; the default thr" in str(said.message)
        assert said.filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        replace(detector).search(made_image(), made_windows())
        for made in (calibrated(detector), scoring_by(detector, "softmax")):
            made.detect(made_image(), made_windows())


def test_a_detector_of_bfloat16_where_there_is_none(detector, saved, tmp_path, monkeypatch):
    rough = SPPDetector.load(saved, precision="bfloat16")
    rough.save(tmp_path / "rough")
    monkeypatch.setattr("detection.inference.detector_parts.native_precision", lambda *_: "float32")
    loaded = SPPDetector.load(tmp_path / "rough")
    assert_same(
        loaded.detect(made_image(), made_windows(), ALL),
        detector.detect(made_image(), made_windows(), ALL),
    )


def test_a_detector_that_comes_with_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shipped("some/detector.safetensors").name == "detector.safetensors"
    assert str(shipped("nothing")) == "nothing"
    (tmp_path / "voc07").write_text("a file of the working folder comes first")
    assert str(shipped("voc07")) == "voc07"
