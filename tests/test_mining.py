"""Mining over pictures: its blocks, a slow twin, and that processes and kills change no byte."""

import logging
from dataclasses import replace
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
import torch
from made_world import (
    CLASSES,
    CONFIG,
    GRID,
    LAYERS,
    LENGTH,
    FakeExtractor,
    Killed,
    cells_of,
    dies_before,
    events_of,
    feature_of,
    made_picture,
    made_world,
)

from detection.data.records import Dataset
from detection.inference.layers import LayerFeatures
from detection.run import Run
from detection.training import mining, stages
from detection.training.hard_negatives import HardNegativeMiner, Model
from detection.training.mining import (
    BLOCK,
    Mining,
    block_ends,
    block_size,
    hard_windows,
    object_features,
)

PICTURES = 13
SOURCE = (None, (), "float32")
# Pictures 0 to 12 in their blocks.
BLOCKS = ([0], [1], [2, 3], [4, 5, 6, 7], [8, 9, 10, 11, 12])


@pytest.fixture
def world(tmp_path):
    """More pictures than in made_world, of which the last has no objects."""
    world = made_world(tmp_path)
    rng = np.random.default_rng(7)
    pictures = [made_picture(tmp_path, number, rng) for number in range(PICTURES)]
    records = [record for record, _, _ in pictures]
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool)
    records[-1] = replace(records[-1], boxes=none[0], labels=none[1], difficult=none[2])
    by_path = {record.path: windows for record, windows, _ in pictures}
    world.data = Dataset(tuple(records), CLASSES)
    world.windows = SimpleNamespace(load=by_path.__getitem__)
    world.entries = [entry for _, _, entry in pictures[:-1]]
    world.head_file = tmp_path / "head.safetensors"
    state = world.features.head.state_dict()
    named = {f"head.{name}": value.numpy() for name, value in state.items()}
    stages.write_tensors(world.head_file, named | {"trunk.0.bias": np.zeros(2, np.float32)})
    return world


def made_mining(world, run):
    extractor = FakeExtractor()
    return Mining(run, world.data, world.windows, extractor, world.features, world.head_file)


def mined(world, run, layers=LAYERS, key="key"):
    found = made_mining(world, run).train(layers, world.entries, key)
    assert tuple(found) == tuple(layers)
    return {name: svms.coef_.tobytes() + svms.intercept_.tobytes() for name, svms in found.items()}


def test_blocks_double_up_to_32():
    done, ends, sizes = 0, [0], []
    while done < 200:
        sizes.append(block_size(done))
        done += sizes[-1]
        ends.append(done)
    assert sizes == [1, 1, 2, 4, 8, 16, 32, 32, 32, 32, 32, 32]
    assert BLOCK == 32
    assert [done for done in range(ends[-1] + 1) if block_ends(done)] == ends


def shared_area(one, other):
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(wide, 0) * max(high, 0)


def overlap(one, other):
    shared = shared_area(one, other)
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (one, other)]
    return shared / (sum(areas) - shared)


def slow_negatives(record, proposals, negative_iou, difficult, num_classes):
    """Of each cell of windows, the classes it is a negative of: only if all its windows are."""
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
    """Rows of each layer as (feature, classes), one window or group of windows at a time."""
    count = len(next(iter(models.values())).bias)
    negatives = slow_negatives(record, proposals, negative_iou, difficult, count)
    found = {layer: [] for layer in models}
    for cell, negative in sorted(negatives.items()):
        pooled = torch.from_numpy(feature_of(np.array([cell], np.float64)))
        for layer, model in models.items():
            row = features(pooled, [layer])[layer][0]
            hard = [
                is_negative
                and (not model.fitted[k] or row @ model.weights[k] + model.bias[k] > -1.0001)
                for k, is_negative in enumerate(negative)
            ]
            if any(hard):
                found[layer].append((row, hard))
    return found


def no_model(length):
    """No class has an SVM yet."""
    return Model(
        np.zeros((2, length), np.float32), np.zeros(2, np.float32), np.zeros(2, bool), -1.0001
    )


def halving_model(rng, rows, fitted):
    """SVMs that find half of the rows hard, each its own."""
    weights = rng.standard_normal((len(fitted), rows.shape[1])).astype(np.float32)
    bias = -1.0 - np.median(rows @ weights.T, axis=0)
    return Model(weights, bias.astype(np.float32), np.array(fitted), -1.0001)


@pytest.mark.parametrize("difficult", [False, True])
@pytest.mark.parametrize("negative_iou", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("fitted", [(True, True, True), (True, False, True)])
def test_hard_windows_equal_the_slow_twins(world, rng, fitted, negative_iou, difficult):
    """Of three classes, one of which the picture does not show."""
    hard_rows, all_rows, together = 0, 0, 0
    for record in world.data.records[-3:]:
        marked = replace(record, difficult=np.arange(len(record.labels)) == 1)
        first = rng.integers(0, 20, (150, 2))
        windows = np.hstack([first, first + rng.integers(2, 12, (150, 2))]).astype(np.float32)
        cells = np.unique(cells_of(windows), axis=0)
        features = world.features(torch.from_numpy(feature_of(cells)), LAYERS)
        models = {layer: halving_model(rng, features[layer], fitted) for layer in LAYERS}
        found = hard_windows(
            world.features,
            SOURCE,
            FakeExtractor(),
            marked,
            windows,
            models,
            negative_iou,
            difficult,
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
    """Which classes take each row of windows when no class has an SVM yet, for one object."""
    record = replace(
        world.data.records[0],
        boxes=np.array([box], np.float32),
        labels=np.array([label]),
        difficult=np.array([difficult]),
    )
    found = hard_windows(
        world.features,
        SOURCE,
        FakeExtractor(),
        record,
        np.array(windows, np.float32),
        {"pool5": no_model(LENGTH)},
        negative_iou,
        False,
    )
    return found["pool5"].negative.tolist()


def test_windows_on_the_same_cells_are_a_negative_only_if_all_are(world):
    box, far = (0, 0, 8, 8), (21, 21, 33, 33)
    little, half = (0, 0, 3, 3), (0, 0, 5, 5)  # on cells 0 and 1; IoU 9/64 and 25/64
    beside = (0, 0, 8, 5)  # on other cells; IoU 40/64

    def taken(negative_iou, *windows):
        """The object is difficult, so that its own box is no window."""
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
    # The half of the object, the object itself, and what is far from it.
    assert taken_by(world, (0, 0, 8, 8), 1, False, windows, 0.5) == expected
    expected[0] = [True, True]
    assert taken_by(world, (0, 0, 8, 8), 1, False, windows, 0.51) == expected


def test_mining_equals_its_slow_twin(world):
    """Every layer and block by itself, models as they were when the block began."""
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


def test_settings_reach_every_miner(world, monkeypatch):
    monkeypatch.setattr(mining, "NEGATIVE_BYTES", 2 * 2 * LENGTH * 9)
    settings = replace(
        CONFIG.svm, C=0.25, bias=3.0, positive_weight=1.5, refit_every=17, negative_iou=0.2
    )
    miners = made_mining(world, world.run(svm=settings, seed=3))._start(LAYERS, world.entries)
    for layer, dimension, most in (("pool5", LENGTH, 9), ("fc6", 6, 75), ("fc7", 6, 75)):
        miner = miners[layer]
        assert miner.dimension == dimension
        assert miner.max_negatives == most
        assert (miner.C, miner.bias, miner.positive_weight) == (0.25, 3.0, 1.5)
        assert (miner.refit_every, miner.seed) == (17, 3)
    monkeypatch.undo()
    miners = made_mining(world, world.run())._start(LAYERS, world.entries)
    assert {miner.max_negatives for miner in miners.values()} == {7000}


def threads_for_processes(monkeypatch):
    """In the place of processes, which would import everything first."""
    monkeypatch.setattr(
        "detection.run.parallel_config", lambda **_: joblib.parallel_config(backend="threading")
    )


def test_threads_beside_a_gpu_change_no_byte(world, monkeypatch):
    found = [mined(world, world.run("alone", workers=1))]
    monkeypatch.setattr(Run, "shares_network", True)
    monkeypatch.setattr(mining, "_features_of_process", None)
    found.append(mined(world, world.run("threads", workers=3)))
    assert found[0] == found[1]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_processes_change_no_byte(world, monkeypatch, precision):
    threads_for_processes(monkeypatch)
    world.features = LayerFeatures(world.features.head, world.features.factors, precision)
    loaded = []
    load = mining._features_of_process
    monkeypatch.setattr(
        mining, "_features_of_process", lambda *source: loaded.append(source) or load(*source)
    )
    found = []
    for workers in (1, 2):
        run = world.run(f"with {workers}", workers=workers, precision=precision)
        found.append(mined(world, run))
        # One process has the features already, others read the head from its file.
        assert len(loaded) == (0 if workers == 1 else PICTURES)
    assert found[0] == found[1]
    source = (world.head_file, tuple(world.features.factors.items()), precision)
    assert set(loaded) == {source}


def test_processes_without_a_head(world, monkeypatch):
    threads_for_processes(monkeypatch)
    world.features = LayerFeatures(None, {"pool5": 1.5})
    world.head_file = world.head_file.with_name("none")
    found = [
        mined(world, world.run(f"with {workers}", workers=workers), ["pool5"]) for workers in (1, 2)
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize("layers", [("pool5", "fc7"), LAYERS])
@pytest.mark.parametrize("kills", [(1,), (3,), (5, 1), (9, 0, 4), (12, 4)])
def test_a_killed_mining_ends_with_the_same_bytes(world, caplog, kills, layers):
    every = {"svm": replace(CONFIG.svm, checkpoint_every=2)}
    undisturbed = mined(world, world.run("one", **every), layers)
    expected = []
    done = 0
    for pictures in kills:  # counted from where the call begins
        with pytest.raises(Killed):
            mined(world, world.run("two", dies_before(pictures), **every), layers)
        done = max(end for end in (0, 2, 4, 8) if end <= done + pictures)
        expected += [done] if done else []
    caplog.set_level(logging.INFO)
    assert mined(world, world.run("two", **every), layers) == undisturbed
    said = [line for line in caplog.messages if line.startswith("SVMs go on")]
    assert said == [f"SVMs go on from picture {number}" for number in expected[-1:]]


def test_layers_are_independent(world):
    together = mined(world, world.run("one"))
    for layer in LAYERS:
        assert mined(world, world.run(layer), [layer]) == {layer: together[layer]}


def test_checkpoints_change_nothing(world):
    found = [
        mined(world, world.run(f"every {count}", svm=replace(CONFIG.svm, checkpoint_every=count)))
        for count in (1, 3, 250)
    ]
    assert found[0] == found[1] == found[2]
    assert (world.run("every 1").folder / "stages/svms.checkpoint").exists()
    assert not (world.run("every 250").folder / "stages").exists()


def test_positives_of_each_layer_and_class(world):
    first = replace(world.entries[0], classes=np.array([1, 1, 0, 0]))
    empty = replace(world.entries[2], objects=0)
    entries = [first, world.entries[1], empty]
    found = object_features(entries, world.features, LAYERS, 3)
    assert list(found) == list(LAYERS)
    pooled = [torch.from_numpy(each.object_rows.read()).float() for each in entries[:2]]
    for layer, dimension in (("pool5", LENGTH), ("fc6", 6), ("fc7", 6)):
        cats, dogs, sheep = found[layer]
        one, two = (world.features(rows, [layer])[layer].astype(np.float16) for rows in pooled)
        np.testing.assert_array_equal(cats, two[:1])
        np.testing.assert_array_equal(dogs, np.concatenate([one, two[1:]]))
        assert sheep.shape == (0, dimension)
        assert cats.dtype == sheep.dtype == np.float16


def test_a_class_without_objects_is_named(world):
    world.data = Dataset(world.data.records, (*CLASSES, "sheep"))
    with pytest.raises(ValueError, match="class 'sheep' has no positive windows"):
        mined(world, world.run())


def made_miners(**settings):
    rng = np.random.default_rng(0)
    miners = {}
    for layer, dimension in (("pool5", 9), ("fc7", 6)):
        positives = [rng.random((3, dimension)).astype(np.float16) for _ in CLASSES]
        miners[layer] = HardNegativeMiner(CLASSES, dimension, **settings).start(positives)
    return miners


def grown(miners):
    rng = np.random.default_rng(1)
    for miner in miners.values():
        features = rng.random((9, miner.dimension)).astype(np.float16)
        miner.add_image(0, features, np.ones((9, 2), bool))
    return miners


def test_resuming_the_miners(tmp_path):
    path = tmp_path / "svms.checkpoint"
    assert mining.resume(path, "key", made_miners()) == 0
    miners = grown(made_miners())
    mining.save(path, "key", 1, miners)

    others = made_miners()
    assert mining.resume(path, "another key", others) == 0
    assert all(other.visited() == set() for other in others.values())
    assert mining.resume(path, "key", others) == 1
    for layer, other in others.items():
        assert other.visited() == {0}
        np.testing.assert_array_equal(other.finish().coef_, miners[layer].finish().coef_)
    message = rf"{path} cannot be gone on from: .* other classes, settings or positives; delete it"
    with pytest.raises(ValueError, match=message):
        mining.resume(path, "key", made_miners(C=1.0))


@pytest.mark.parametrize("damage", ["cut", "empty", "garbled"])
def test_a_damaged_checkpoint_is_refused(world, damage):
    path = world.run().folder / "stages" / "svms.checkpoint"
    mining.save(path, "key", 1, made_miners())
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[:-10], "empty": b"", "garbled": b"x" * 500}[damage])
    message = rf"{path} is not an SVM checkpoint \(.*\); delete it and run again"
    with pytest.raises(ValueError, match=message):
        mining.resume(path, "key", made_miners())
    with pytest.raises(ValueError, match=message):
        mined(world, world.run())


def test_a_checkpoint_of_other_positives_is_refused(world):
    run = world.run()
    with pytest.raises(Killed):
        mined(world, world.run(progress=dies_before(5)))
    world.entries = world.entries[1:]
    with pytest.raises(ValueError, match=r"cannot be gone on from: .* settings or positives"):
        mined(world, run)
    mined(world, run, key="other")


def test_features_that_are_not_finite_are_refused(world):
    world.features.head.fc7.bias.data.fill_(torch.nan)
    record = world.data.records[0]
    models = {"fc7": no_model(6)}
    with pytest.raises(ValueError, match="features are not finite"):
        hard_windows(
            world.features,
            SOURCE,
            FakeExtractor(),
            record,
            world.windows.load(record.path),
            models,
            0.3,
            False,
        )
