"""The layer on fc7 that moves windows: its targets, its loss, and box regression made of it."""

import numpy as np
import pytest
import torch

from detection.learners.bbox_regression import decode
from detection.training.finetuning.batches import View
from detection.training.finetuning.box_layer import (
    DEVIATIONS,
    box_layer,
    box_loss,
    box_targets,
    regressor_of,
)

CLASSES, HIDDEN = 3, 6


def made_view(windows, boxes):
    count = len(windows)
    image = np.zeros((1, 1, 3), np.uint8)
    labels = np.zeros(count, np.int64)
    return View(image, np.array(windows, np.float32), labels, np.array(boxes, np.float32), 0)


def some_boxes(rng, count):
    corners = rng.uniform(0, 50, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(5, 60, (count, 2))], 1).astype(np.float32)


def test_targets_by_hand():
    # Twice as wide, and its centre half a window's width to the right.
    views = [
        made_view([(10, 10, 20, 30)], [(10, 10, 30, 30)]),
        made_view([(0, 0, 4, 4)] * 2, [(0, 0, 4, 4)] * 2),
    ]
    targets = box_targets(views)
    assert targets.dtype == torch.float32
    assert targets[0].tolist() == pytest.approx([0.5 / 0.1, 0, np.log(2) / 0.2, 0])
    assert torch.equal(targets[1:], torch.zeros(2, 4))


def test_the_loss_by_hand(rng):
    moves = torch.tensor(rng.normal(0, 2, (9, 4 * CLASSES)), dtype=torch.float32)
    targets = torch.tensor(rng.normal(0, 2, (9, 4)), dtype=torch.float32)
    labels = torch.tensor([0, 3, 2, 1, 3, 3, 2, 0, 3])
    total = 0.0
    for row, label in enumerate(labels.tolist()):
        for side in range(4):
            if label < CLASSES:
                error = abs(moves[row, 4 * label + side].item() - targets[row, side].item())
                total += error**2 / 2 if error < 1 else error - 0.5
    assert box_loss(moves, targets, labels).item() == pytest.approx(total / 9, rel=1e-5)


def test_background_has_no_loss(rng):
    moves = torch.tensor(rng.normal(0, 1, (4, 4 * CLASSES)), requires_grad=True)
    loss = box_loss(moves, torch.ones(4, 4), torch.full((4,), CLASSES))
    loss.backward()
    assert loss.item() == 0
    assert not moves.grad.any()


def test_a_new_layer_leaves_windows_where_they_are(rng):
    windows = some_boxes(rng, 5)
    moved = regressor_of(box_layer(HIDDEN, CLASSES), 2.0).predict(np.ones((5, HIDDEN)), windows)
    np.testing.assert_allclose(moved, np.repeat(windows[:, None], CLASSES, axis=1), rtol=1e-5)


@pytest.mark.parametrize("factor", [1.0, 0.37])
def test_box_regression_does_what_the_layer_does(rng, factor):
    layer = box_layer(HIDDEN, CLASSES)
    torch.nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(1))
    torch.nn.init.normal_(layer.bias, generator=torch.Generator().manual_seed(2))
    fc7, windows = torch.rand(7, HIDDEN), some_boxes(rng, 7)
    with torch.no_grad():
        said = layer(fc7).numpy().reshape(7, CLASSES, 4) * DEVIATIONS
    expected = np.stack([decode(windows, said[:, label]) for label in range(CLASSES)], axis=1)
    found = regressor_of(layer, factor).predict((factor * fc7).numpy(), windows)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_a_layer_that_says_the_targets_finds_the_objects(rng):
    windows, boxes = some_boxes(rng, 6), some_boxes(rng, 6)
    layer = box_layer(6, CLASSES)
    targets = box_targets([made_view(windows, boxes)])
    with torch.no_grad():
        layer.weight.copy_(targets.T.repeat(CLASSES, 1))
    found = regressor_of(layer, 1.0).predict(np.eye(6), windows)
    for label in range(CLASSES):
        np.testing.assert_allclose(found[:, label], boxes, rtol=1e-4, atol=1e-3)
