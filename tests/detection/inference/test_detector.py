"""The detector's scores, boxes and layers for given images and windows."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_detector import (
    ALL,
    CLASSES,
    LAYERS,
    SIZE,
    assert_same,
    made_image,
    made_windows,
    scoring_by,
)
from PIL import Image

from detection.features.extractor import SPPExtractor
from detection.inference.detector import SPPDetector
from detection.settings.testing import Detection
from proposals.methods import Proposals


def mirrored(boxes, width):
    """Return boxes ``(..., 4)`` mirrored left to right."""
    x1, y1, x2, y2 = np.moveaxis(boxes, -1, 0)
    return np.stack([width - x2, y1, width - x1, y2], axis=-1)


def test_it_finds_something(detector):
    found = detector.detect(made_image(), made_windows(), ALL)
    assert len(found) > 10
    assert (np.diff(found.scores) <= 0).all()
    assert set(found.labels) == {0, 1, 2}
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, 2] <= SIZE[1]).all()
    assert (found.boxes[:, 3] <= SIZE[0]).all()
    # The boxes are regressed: none of them equals a window.
    assert not (found.boxes[:, None] == made_windows()).all(axis=2).any()


def test_scores_by_hand(detector):
    image, windows = made_image(), made_windows()
    scores, boxes = detector.score(image, windows, LAYERS)
    assert list(scores) == list(LAYERS)
    assert boxes.shape == (40, 3, 4)
    found = detector.extractor.features(image, windows)
    head = detector.features.head
    for row in (0, 7, 39):
        pooled = found.pooled[found.index[row]][None]
        for layer in ("pool5", "fc6", "fc7"):
            features = detector.features(pooled, [layer])[layer][0]
            svms = detector.svms[layer]
            expected = svms.coef_ @ features + svms.intercept_
            np.testing.assert_allclose(scores[layer][row], expected, rtol=1e-4, atol=1e-4)
        expected = (scores["fc6"][row] + scores["fc7"][row]) / 2
        np.testing.assert_allclose(scores["fc6+fc7"][row], expected, rtol=1e-4, atol=1e-4)
        with torch.no_grad():
            expected = head(pooled).softmax(dim=1)[0, :3]
        np.testing.assert_allclose(scores["softmax"][row], expected, rtol=1e-4)
        expected = detector.regressor.predict(pooled.numpy(), windows[row][None])[0]
        np.testing.assert_allclose(boxes[row], expected, rtol=1e-4, atol=1e-3)
    for layer in LAYERS:
        assert scores[layer].shape == (40, 3)
        assert scores[layer].std() > 0
        one = detector.score(image, windows[7:8], [layer])[0]
        assert list(one) == [layer]
        np.testing.assert_allclose(one[layer][0], scores[layer][7], rtol=1e-4, atol=1e-4)


def test_the_layer_of_the_settings_scores(detector):
    image, windows = made_image(), made_windows()
    assert detector.layers == LAYERS
    assert list(detector.score(image, windows)[0]) == ["fc7"]
    every = detector.candidates(image, windows, LAYERS)
    assert list(every) == list(LAYERS)
    seen = []
    for layer in LAYERS:
        chosen = scoring_by(detector, layer)
        (own,) = chosen.candidates(image, windows).values()
        # One pass for all layers gives the same as a pass for each.
        np.testing.assert_allclose(own.scores, every[layer].scores, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(own.labels, every[layer].labels)
        np.testing.assert_array_equal(own.windows, every[layer].windows)
        found = chosen.detect(image, windows, ALL)
        assert_same(found, chosen.finish(own, SIZE))
        seen.append(found.scores[:10].tolist())
    assert len({tuple(scores) for scores in seen}) == len(LAYERS)


def test_without_box_regression_the_windows_are_the_boxes(detector):
    plain = scoring_by(detector, "fc7", bbox=False)
    found = plain.detect(made_image(), made_windows(), ALL)
    assert len(found) > 10
    assert (found.boxes[:, None] == made_windows()).all(axis=2).any(axis=1).all()
    # The candidates are the same with box regression; only ``finish`` differs.
    candidates = detector.candidates(made_image(), made_windows())["fc7"]
    before = candidates.boxes.copy()
    assert_same(plain.finish(candidates, SIZE), found)
    np.testing.assert_array_equal(candidates.boxes, before)
    assert_same(
        detector.finish(candidates, SIZE), detector.detect(made_image(), made_windows(), ALL)
    )


def test_a_second_pass_moves_each_box_by_the_features_of_the_first(detector):
    image, windows = made_image(), made_windows()
    twice = replace(detector, detection=replace(detector.detection, bbox_passes=2))
    before = detector.candidates(image, windows, ["fc6", "fc7"])
    for layer, after in twice.candidates(image, windows, ["fc6", "fc7"]).items():
        one = before[layer]
        for name in ("windows", "scores", "labels"):
            np.testing.assert_array_equal(getattr(after, name), getattr(one, name))
        moved = 0
        for row, (x1, y1, x2, y2) in enumerate(one.boxes):
            x1, x2 = max(x1, 0), min(x2, SIZE[1])
            y1, y2 = max(y1, 0), min(y2, SIZE[0])
            expected = one.boxes[row]
            if x2 - x1 >= 1 and y2 - y1 >= 1:
                box = np.array([[x1, y1, x2, y2]], np.float32)
                pooled = detector.extractor.features(image, box).pooled
                expected = detector.regressor.predict(pooled, box)[0, one.labels[row]]
                moved += 1
            np.testing.assert_allclose(after.boxes[row], expected, rtol=1e-4, atol=2e-3)
        assert moved > 10


def test_flip_scores_and_boxes_are_the_means_of_image_and_mirror(detector):
    image, windows = made_image(), made_windows()
    width = image.shape[1]
    mirror = np.ascontiguousarray(np.fliplr(image))
    both = replace(detector, detection=replace(detector.detection, flip=True))
    scores, boxes = both.score(image, windows, LAYERS)
    one, one_boxes = detector.score(image, windows, LAYERS)
    other, other_boxes = detector.score(mirror, mirrored(windows, width), LAYERS)
    for layer in LAYERS:
        np.testing.assert_allclose(scores[layer], (one[layer] + other[layer]) / 2, rtol=1e-6)
    expected = (one_boxes + mirrored(other_boxes, width)) / 2
    np.testing.assert_allclose(boxes, expected, rtol=1e-5, atol=1e-3)
    assert np.abs(one["fc7"] - other["fc7"]).max() > 1e-3


@pytest.mark.parametrize("passes", [1, 2])
def test_flip_finds_the_same_in_a_mirrored_image(detector, passes):
    image, windows = made_image(), made_windows()
    width = image.shape[1]
    settings = replace(detector.detection, flip=True, bbox_passes=passes)
    both = replace(detector, detection=settings)
    found = both.candidates(image, windows)["fc7"]
    mirror = np.ascontiguousarray(np.fliplr(image))
    again = both.candidates(mirror, mirrored(windows, width))["fc7"]
    assert len(found) == len(again) > 10
    order, other = (np.lexsort((each.scores, each.labels)) for each in (found, again))
    np.testing.assert_allclose(found.scores[order], again.scores[other], rtol=1e-5, atol=1e-5)
    turned = mirrored(again.boxes, width)[other]
    np.testing.assert_allclose(found.boxes[order], turned, rtol=1e-4, atol=5e-3)


def test_no_candidate_no_second_pass(detector):
    settings = replace(detector.detection, bbox_passes=2, score_threshold=1e6)
    found = replace(detector, detection=settings).candidates(made_image(), made_windows())
    assert [len(each) for each in found.values()] == [0]


@pytest.mark.parametrize("layer", ["fc6", "fc7", "fc6+fc7", "softmax"])
def test_a_layer_that_was_not_trained(headless, layer):
    assert headless.layers == ("pool5",)
    parts = " and ".join(layer.split("+"))
    message = re.escape(
        f"scores by pool5, not by {layer}: to use {layer}, train with {parts} in --svm.layer"
    )
    with pytest.raises(ValueError, match=message):
        headless.score(made_image(), made_windows(), ["pool5", layer])
    with pytest.raises(ValueError, match=message):
        headless.candidates(made_image(), made_windows(), [layer])
    with pytest.raises(ValueError, match=message):
        scoring_by(headless, layer).detect(made_image(), made_windows())


def test_some_layers_only(detector, tmp_path):
    some = replace(detector, svms={"fc6": detector.svms["fc6"]})
    assert some.layers == ("fc6", "softmax")
    assert some.layer == "fc6"
    assert scoring_by(some, "softmax").display_threshold == 0.5
    with pytest.raises(ValueError, match=r"scores by fc6, softmax, not by fc7"):
        scoring_by(some, "fc7").detect(made_image(), made_windows())
    some.save(tmp_path / "detector")
    loaded = SPPDetector.load(tmp_path / "detector", detection=Detection(layer="fc6"))
    assert loaded.layers == ("fc6", "softmax")
    expected = scoring_by(detector, "fc6").detect(made_image(), made_windows(), ALL)
    assert_same(loaded.detect(made_image(), made_windows(), ALL), expected)


@pytest.mark.parametrize("kind", ["png", "grey.png", "alpha.png"])
def test_a_path_is_its_image(detector, tmp_path, kind):
    image = made_image()
    path = tmp_path / f"image.{kind}"
    if kind == "grey.png":
        image = np.repeat(image[:, :, :1], 3, axis=2)
        Image.fromarray(image[:, :, 0]).save(path)
    elif kind == "alpha.png":
        Image.fromarray(image).convert("RGBA").save(path)
    else:
        Image.fromarray(image).save(path)
    expected = detector.detect(image, score_threshold=ALL)
    assert len(expected)
    assert_same(detector.detect(path, score_threshold=ALL), expected)
    assert_same(detector.detect(str(path), score_threshold=ALL), expected)


@pytest.mark.parametrize("size", [(1, 1), (30, 30), (1, 40), (50, 3)])
def test_small_images(detector, size):
    if min(size) * 20 < max(size):  # the shorter side becomes 96 pixels, the longer 40 times that
        detector = replace(detector, extractor=SPPExtractor(detector.extractor.backbone, (64,)))
    found = detector.detect(np.full((*size, 3), 90, np.uint8), score_threshold=ALL)
    assert (found.boxes[:, 2:] <= np.array(size[::-1])).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()


def test_no_windows(detector):
    found = detector.detect(made_image(), np.zeros((0, 4), np.float32), ALL)
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)
    assert found.classes == CLASSES


@pytest.mark.parametrize("count", [1, 2])
def test_windows_made_beside_the_maps(detector, threads, count):
    torch.set_num_threads(count)
    ours = replace(detector, proposals=Proposals(method="edge_boxes"))
    windows = ours.proposals(made_image())
    assert len(windows) > 10
    found = ours.detect(made_image(), score_threshold=ALL)
    assert_same(found, ours.detect(made_image(), windows, ALL))


def test_thresholds(detector):
    every = detector.detect(made_image(), made_windows(), ALL)
    middle = float(np.median(every.scores))
    some = detector.detect(made_image(), made_windows(), middle)
    assert_same(some, every[every.scores > middle])
    assert 0 < len(some) < len(every)
    shown = detector.detect(made_image(), made_windows())
    assert_same(shown, every[every.scores > -0.7])


def test_order_of_windows_is_no_matter(detector, rng):
    # One window for each set of cells, since the order decides between equal scores.
    cells = detector.extractor.cells(detector.extractor.maps(made_image()), made_windows())
    windows = made_windows()[np.unique(cells, axis=0, return_index=True)[1]]
    assert len(windows) > 15
    one = detector.detect(made_image(), windows, ALL)
    other = detector.detect(made_image(), windows[rng.permutation(len(windows))], ALL)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
    np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-2)


def test_bad_images(detector, tmp_path):
    with pytest.raises(FileNotFoundError, match="no image at"):
        detector.detect(tmp_path / "none.jpg")
    (tmp_path / "words.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"words\.jpg is not a readable image"):
        detector.detect(tmp_path / "words.jpg")
    for wrong in (made_image()[:, :, 0], made_image() / 255):
        with pytest.raises(ValueError, match=r"\(H, W, 3\)"):
            detector.detect(wrong)
        with pytest.raises(ValueError, match=r"must be uint8 \(H, W, 3\)"):
            detector.detect(wrong, made_windows())


def test_windows_may_be_rows(detector):
    image, windows = made_image(), made_windows()
    assert_same(detector.detect(image, windows.tolist(), ALL), detector.detect(image, windows, ALL))
    assert len(detector.detect(image, [], ALL)) == 0
    with pytest.raises(ValueError, match="windows must be rows of four numbers"):
        detector.detect(image, [1, 2, 3, 4], ALL)
