"""The hard windows that mining finds: of an image and over all, against a slow twin."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_mining import made_mining, made_mining_world
from made_world import CLASSES, GRID, LAYERS, LENGTH, FakeExtractor, cells_of, events_of, feature_of

from detection.training.mining.hard_negatives import HardNegativeMiner
from detection.training.mining.hard_windows import MiningJob, hard_windows
from detection.training.mining.models import Model
from detection.training.mining.search import object_features

# The blocks that images 0 to 12 are mined in.
BLOCKS = ([0], [1], [2, 3], [4, 5, 6, 7], [8, 9, 10, 11, 12])


@pytest.fixture
def world(tmp_path):
    return made_mining_world(tmp_path)


def shared_area(one, other):
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(wide, 0) * max(high, 0)


def overlap(one, other):
    shared = shared_area(one, other)
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (one, other)]
    return shared / (sum(areas) - shared)


def slow_negatives(record, proposals, negative_iou, difficult, num_classes):
    """Return the classes that each cell is a negative of: only if all windows on it are."""
    objects = [
        (box.tolist(), label, hard)
        for box, label, hard in zip(record.boxes, record.labels, record.difficult, strict=True)
    ]
    windows = [box for box, _, hard in objects if difficult or not hard]
    windows += [window.tolist() for window in proposals]
    negative = {}
    for window in windows:
        cell = tuple(int(corner // GRID) for corner in window)
        negative.setdefault(cell, [True] * num_classes)
        for box, label, _ in objects:
            if overlap(window, box) >= negative_iou:
                negative[cell][label] = False
    return negative


def slow_hard(features, record, proposals, models, negative_iou, difficult=False):
    """Return the hard rows of each layer as (feature, classes), computed cell by cell."""
    count = len(next(iter(models.values())).bias)
    negatives = slow_negatives(record, proposals, negative_iou, difficult, count)
    found = {layer: [] for layer in models}
    for cell, negative in sorted(negatives.items()):
        pooled = torch.from_numpy(feature_of(np.array([cell], np.float64)))
        for layer, model in models.items():
            row = features(pooled, [layer])[layer][0]
            hard = [
                is_negative and row @ model.weights[k] + model.bias[k] > model.thresholds[k]
                for k, is_negative in enumerate(negative)
            ]
            if any(hard):
                found[layer].append((row, hard))
    return found


def no_model(length):
    """Return the model of two classes that have no SVM yet."""
    return Model(
        np.zeros((2, length), np.float32), np.zeros(2, np.float32), np.full(2, -np.inf, np.float32)
    )


def halving_model(rng, rows, fitted):
    """Return SVMs each of which finds half of the rows hard, or all if it is not fitted."""
    weights = rng.standard_normal((len(fitted), rows.shape[1])).astype(np.float32)
    bias = -1.0 - np.median(rows @ weights.T, axis=0)
    thresholds = np.where(fitted, -1.0001, -np.inf).astype(np.float32)
    return Model(weights, bias.astype(np.float32), thresholds)


@pytest.mark.parametrize("difficult", [False, True])
@pytest.mark.parametrize("negative_iou", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("fitted", [(True, True, True), (True, False, True)])
def test_hard_windows_equal_the_slow_twins(world, rng, fitted, negative_iou, difficult):
    """There are three classes; the images have no object of the third."""
    hard_rows, all_rows, together = 0, 0, 0
    for record in world.data.records[-3:]:
        marked = replace(record, difficult=np.arange(len(record.labels)) == 1)
        first = rng.integers(0, 20, (150, 2))
        windows = np.hstack([first, first + rng.integers(2, 12, (150, 2))]).astype(np.float32)
        cells = np.unique(cells_of(windows), axis=0)
        features = world.features(torch.from_numpy(feature_of(cells)), LAYERS)
        models = {layer: halving_model(rng, features[layer], fitted) for layer in LAYERS}
        found = hard_windows(
            FakeExtractor(),
            world.features,
            MiningJob(
                marked,
                windows,
                models,
                negative_iou,
                difficult,
            ),
        )
        slow = slow_hard(world.features, marked, windows, models, negative_iou, difficult)
        assert list(found) == list(LAYERS)
        for layer, hard in found.items():
            assert hard.features.dtype == np.float16
            assert hard.negative.tolist() == [classes for _, classes in slow[layer]]
            expected = np.stack([row for row, _ in slow[layer]])
            np.testing.assert_allclose(hard.features, expected, rtol=2e-3, atol=1e-6)
            hard_rows += len(expected)
        together += len(windows) - len(cells)
        all_rows += len(cells) * len(LAYERS)
    # Some windows are hard and some are not, and some share their cells.
    assert 0.3 * all_rows < hard_rows
    if all(fitted):
        assert hard_rows < 0.98 * all_rows
    assert together > 30


def taken_by(world, box, label, difficult, windows, negative_iou):
    """Return the classes that each row of windows is a negative of, with one object and no SVM."""
    record = replace(
        world.data.records[0],
        boxes=np.array([box], np.float32),
        labels=np.array([label]),
        difficult=np.array([difficult]),
    )
    found = hard_windows(
        FakeExtractor(),
        world.features,
        MiningJob(
            record,
            np.array(windows, np.float32),
            {"pool5": no_model(LENGTH)},
            negative_iou,
            False,
        ),
    )
    return found["pool5"].negative.tolist()


def test_windows_on_the_same_cells_are_a_negative_only_if_all_are(world):
    box, far = (0, 0, 8, 8), (21, 21, 33, 33)
    little, half = (0, 0, 3, 3), (0, 0, 5, 5)  # on cells 0 and 1; IoU 9/64 and 25/64
    beside = (0, 0, 8, 5)  # on other cells; IoU 40/64

    def taken(negative_iou, *windows):
        """The object is difficult, so its own box is not among the windows."""
        return taken_by(world, box, 0, True, windows, negative_iou)

    assert taken(0.3, little) == [[True, True]]
    assert taken(0.3, half) == [[False, True]]
    assert taken(0.3, little, half) == taken(0.3, half, little) == [[False, True]]
    assert taken(0.5, little, half) == [[True, True]]
    assert taken(0.3, little, far) == [[True, True], [True, True]]
    assert taken(0.3, little, beside) == [[True, True], [False, True]]


def test_an_overlap_at_the_threshold_is_no_negative(world):
    windows = [(0, 0, 4, 8), (12, 12, 20, 20)]  # IoU 1/2 and 0
    expected = [[True, False], [True, False], [True, True]]
    # The rows are the half of the object, the object itself, and the window far from it.
    assert taken_by(world, (0, 0, 8, 8), 1, False, windows, 0.5) == expected
    expected[0] = [True, True]
    assert taken_by(world, (0, 0, 8, 8), 1, False, windows, 0.51) == expected


def test_mining_equals_its_slow_twin(world):
    """The twin mines each layer by itself, with the model from the beginning of the block."""
    run = world.run()
    found = made_mining(world, run).train(LAYERS, world.entries, "key")
    settings = run.config.svm
    for layer in LAYERS:
        events = []
        positives = object_features(world.entries, world.features, [layer], 2)[layer]
        miner = HardNegativeMiner(
            CLASSES,
            positives[0].shape[1],
            refit_every=settings.refit_every,
            on_refit=lambda events=events, **event: events.append(event),
        )
        miner.start(positives)
        taken = 0
        for block in BLOCKS:
            model = miner.model()
            for number in block:
                record = world.data.records[number]
                windows = world.windows.load(record.path)
                negatives = slow_negatives(record, windows, 0.3, False, 2)
                cells = np.array(sorted(negatives), np.float64)
                rows = world.features(torch.from_numpy(feature_of(cells)), [layer])[layer]
                hard = model.hard(rows) & [negatives[cell] for cell in sorted(negatives)]
                some = hard.any(axis=1)
                taken += some.sum()
                miner.add_image(number, rows[some].astype(np.float16), hard[some])
        expected = miner.finish()
        np.testing.assert_array_equal(found[layer].coef_, expected.coef_)
        np.testing.assert_array_equal(found[layer].intercept_, expected.intercept_)
        assert taken > 20
        assert len(events) > 4
    assert {event["layer"] for event in events_of(run, "svm")} == set(LAYERS)


def test_features_that_are_not_finite_are_refused(world):
    world.features.head.fc7.bias.data.fill_(torch.nan)
    record = world.data.records[0]
    models = {"fc7": no_model(6)}
    with pytest.raises(ValueError, match="features are not finite"):
        hard_windows(
            FakeExtractor(),
            world.features,
            MiningJob(
                record,
                world.windows.load(record.path),
                models,
                0.3,
                False,
            ),
        )
