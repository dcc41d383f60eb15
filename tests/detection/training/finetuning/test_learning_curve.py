"""The learning curve: pooled once, or again at each point if convolutions are trained."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_batches import CLASSES, made_records
from made_network import LAYERS, SETTINGS, made_network, window_batches

from detection.features.extractor import SPPExtractor
from detection.training.finetuning import learning_curve
from detection.training.finetuning.learning_curve import LearningCurve, logits_of, pooled_batch
from detection.training.finetuning.pyramid_network import PyramidNetwork


@pytest.fixture
def held_back(tmp_path):
    return window_batches(made_records(tmp_path, 3, first=100), seed=1)


@LAYERS
def test_logits_are_those_of_the_views_one_after_the_other(records, layers):
    network = made_network(replace(SETTINGS, train_from=layers))
    network.head.eval()
    views = window_batches(records).draw(0) + window_batches(records).draw(1)
    pooled, labels = pooled_batch(network, views, autocast=False)
    logits = logits_of(network, pooled, autocast=False)
    assert logits.shape == (32, CLASSES + 1)
    assert labels.dtype == torch.int64
    assert labels.tolist() == [label for view in views for label in view.labels]
    expected = [
        network.head(network.extractor.features_at(view.image, view.windows, view.side))
        for view in views
    ]
    torch.testing.assert_close(logits, torch.cat(expected))
    # features_at pools as an extractor that has this scale alone.
    for view in views:
        alone = SPPExtractor(network.extractor.backbone, (view.side,))
        found = alone.features(view.image, view.windows)
        pooled = network.extractor.features_at(view.image, view.windows, view.side)
        assert torch.equal(pooled, found.pooled[found.index])


@pytest.mark.parametrize(("most", "batches"), [(32, 3), (2, 2)])
def test_the_curve_by_hand(held_back, monkeypatch, most, batches):
    monkeypatch.setattr(learning_curve, "BATCHES", most)
    network = made_network()
    losses, misses, object_misses = [], [], []
    network.head.eval()
    for step in range(batches):
        for view in held_back.draw(step):
            pooled = network.extractor.features_at(view.image, view.windows, view.side)
            for logits, label in zip(network.head(pooled).tolist(), view.labels, strict=True):
                losses.append(np.log(np.exp(logits).sum()) - logits[label])
                misses.append(np.argmax(logits) != label)
                if label < CLASSES:
                    object_misses.append(misses[-1])
    network.head.train()
    curve = LearningCurve(network, held_back, autocast=False)
    found = curve.point()
    assert not network.head.training
    assert found == {
        "held_back_loss": pytest.approx(np.mean(losses)),
        "held_back_error": pytest.approx(np.mean(misses)),
        "held_back_object_error": pytest.approx(np.mean(object_misses)),
    }
    assert curve.point() == found


@LAYERS
def test_a_network_that_has_learned_has_another_point(held_back, layers):
    network = made_network(replace(SETTINGS, train_from=layers))
    curve = LearningCurve(network, held_back, autocast=False)
    curve.point()
    with torch.no_grad():
        for parameter in network.trained().values():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    assert curve.point() == LearningCurve(network, held_back, autocast=False).point()


@pytest.mark.parametrize(("layers", "times"), [("fc", 1), ("conv3", 3)])
def test_images_are_pooled_once_unless_convolutions_are_trained(
    held_back, monkeypatch, layers, times
):
    network, views = made_network(replace(SETTINGS, train_from=layers)), []

    def pooled(view):
        views.append(view)
        return PyramidNetwork.pooled(network, view)

    monkeypatch.setattr(network, "pooled", pooled)
    curve = LearningCurve(network, held_back, autocast=False)
    for _ in range(3):
        curve.point()
    assert len(views) == times * 3 * SETTINGS.images
