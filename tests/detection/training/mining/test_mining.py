"""Mining over images: its blocks, and that processes, kills and checkpoints change no byte."""

import logging
import pickle
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from damage import WAYS, damaged
from made_mining import IMAGES, made_mining, made_mining_world
from made_world import CLASSES, CONFIG, LAYERS, LENGTH, FakeExtractor, Killed, dies_before

from detection.data.records import Dataset
from detection.features.build import ExtractorSpec
from detection.inference.layers import LayerFeatures
from detection.learners.svm import HingeLoss
from detection.run import Run
from detection.training.mining import checkpoint, hard_windows
from detection.training.mining import search as mining
from detection.training.mining.hard_negatives import HardNegativeMiner
from detection.training.mining.refits import Refits
from detection.training.mining.search import (
    BLOCK,
    block_ends,
    block_size,
    negatives_held,
    object_features,
)


@pytest.fixture
def world(tmp_path):
    return made_mining_world(tmp_path)


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


def test_settings_reach_every_miner(world, monkeypatch):
    monkeypatch.setattr(mining, "NEGATIVE_BYTES", 2 * 2 * LENGTH * 9)
    settings = replace(
        CONFIG.svm, C=0.25, bias=3.0, positive_weight=1.5, refit_every=17, negative_iou=0.2
    )
    miners = made_mining(world, world.run(svm=settings, seed=3))._start(
        LAYERS, world.entries, Refits()
    )
    # There is room for 9 negatives of a class on pool5, and for 75 on the other layers.
    limits = {"pool5": (LENGTH, 4, 5), "fc6": (6, 17, 58), "fc7": (6, 17, 58)}
    for layer, expected in limits.items():
        miner = miners[layer]
        assert (miner.dimension, miner.refit_every, miner.max_negatives) == expected
        assert miner.loss == HingeLoss(C=0.25, positive_weight=1.5, bias=3.0)
        assert miner.seed == 3
    monkeypatch.undo()
    miners = made_mining(world, world.run())._start(LAYERS, world.entries, Refits())
    assert {miner.max_negatives for miner in miners.values()} == {7000}


def test_negatives_fit_in_memory_whatever_the_classes():
    assert negatives_held(20, 4096, 2000) == (2000, 7000)
    for classes, length in ((20, 12_800), (20, 9216), (200, 4096), (1000, 12_800)):
        for asked in (1, 2000, 5000):
            new, kept = negatives_held(classes, length, asked)
            assert 1 <= new <= asked
            assert 1 <= kept <= 7000
            assert 2 * classes * length * (new + kept) <= mining.NEGATIVE_BYTES
    # Every class keeps one negative even if the memory is too small for that.
    assert negatives_held(10**6, 12_800, 2000) == (1, 1)


SPEC = ExtractorSpec("spp", "fake", Path("trunk"), "digest", (688,), "paper", "float32")


def threads_for_processes(monkeypatch):
    """Use threads for processes, which would import everything first, with a fake extractor."""
    monkeypatch.setattr(
        mining, "extractor_spec", lambda run, _: None if run.shares_network else SPEC
    )
    monkeypatch.setattr(hard_windows, "extractor_of_process", lambda _: FakeExtractor())
    monkeypatch.setattr(
        "detection.pool.parallel_config", lambda **_: joblib.parallel_config(backend="threading")
    )


def test_threads_beside_a_gpu_change_no_byte(world, monkeypatch):
    found = [mined(world, world.run("alone", workers=1))]
    monkeypatch.setattr(Run, "_gpu", True)
    monkeypatch.setattr(hard_windows, "_features_of_process", None)
    found.append(mined(world, world.run("threads", workers=3)))
    assert found[0] == found[1]


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_processes_change_no_byte(world, monkeypatch, precision):
    threads_for_processes(monkeypatch)
    world.features = LayerFeatures(world.features.head, world.features.factors, precision)
    loaded = []
    load = hard_windows._features_of_process
    monkeypatch.setattr(
        hard_windows, "_features_of_process", lambda source: loaded.append(source) or load(source)
    )
    found = []
    for workers in (1, 2):
        run = world.run(f"with {workers}", workers=workers, precision=precision)
        found.append(mined(world, run))
        # One process has the features already; several processes read the head from its file.
        assert len(loaded) == (0 if workers == 1 else IMAGES)
    assert found[0] == found[1]
    factors = tuple(world.features.factors.items())
    assert set(loaded) == {hard_windows.FeatureSource(SPEC, world.head, factors, precision)}
    # A job holds an image's windows and the SVMs, and neither a network nor a head.
    run = world.run(workers=2)
    job = made_mining(world, run)._job(world.data.records[0], {})
    assert len(pickle.dumps((made_mining(world, run)._call(), job))) < 5000


def test_processes_without_a_head(world, monkeypatch):
    threads_for_processes(monkeypatch)
    world.features = LayerFeatures(None, {"pool5": 1.5})
    world.head = world.head._replace(path=world.head.path.with_name("none"))
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
    for images in kills:  # counted from the first image of the call
        with pytest.raises(Killed):
            mined(world, world.run("two", dies_before(images), **every), layers)
        done = max(end for end in (0, 2, 4, 8) if end <= done + images)
        expected += [done] if done else []
    caplog.set_level(logging.INFO)
    assert mined(world, world.run("two", **every), layers) == undisturbed
    said = [line for line in caplog.messages if line.startswith("SVMs resume")]
    assert said == [f"SVMs resume at image {number}" for number in expected[-1:]]


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
    assert checkpoint.resume(path, "key", made_miners()) == 0
    miners = grown(made_miners())
    checkpoint.save(path, "key", 1, miners)

    others = made_miners()
    assert checkpoint.resume(path, "another key", others) == 0
    assert not any(len(other.state()["visited"]) for other in others.values())
    assert checkpoint.resume(path, "key", others) == 1
    for layer, other in others.items():
        assert other.state()["visited"].tolist() == [0]
        np.testing.assert_array_equal(other.finish().coef_, miners[layer].finish().coef_)
    message = rf"{path} cannot be resumed: .* different classes, settings or positives; delete it"
    with pytest.raises(ValueError, match=message):
        checkpoint.resume(path, "key", made_miners(loss=HingeLoss(C=1.0)))


@pytest.mark.parametrize("way", WAYS)
def test_a_damaged_checkpoint_is_refused(world, way):
    path = world.run().folder / "stages" / "svms.checkpoint"
    checkpoint.save(path, "key", 1, made_miners())
    path.write_bytes(damaged(path.read_bytes(), way))
    message = rf"{path} is damaged \(.*\); delete it and run the same command again"
    with pytest.raises(ValueError, match=message):
        checkpoint.resume(path, "key", made_miners())
    with pytest.raises(ValueError, match=message):
        mined(world, world.run())


def test_a_checkpoint_of_other_positives_is_refused(world):
    run = world.run()
    with pytest.raises(Killed):
        mined(world, world.run(progress=dies_before(5)))
    world.entries = world.entries[1:]
    with pytest.raises(ValueError, match=r"cannot be resumed: .* settings or positives"):
        mined(world, run)
    mined(world, run, key="other")


def test_a_blocks_file_goes_with_its_block(world, monkeypatch):
    """A block's file is deleted even if the block fails, and after a kill at the next start."""
    threads_for_processes(monkeypatch)
    monkeypatch.setattr(hard_windows, "_features_of_process", lambda _: world.features)
    run = world.run("one", workers=2)
    left = run.folder / "stages/svms-at-64.safetensors"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"left")

    def fails(*_):
        assert list(left.parent.glob("svms-at-*"))
        raise Killed

    with monkeypatch.context() as failing:
        failing.setattr(HardNegativeMiner, "add_image", fails)
        with pytest.raises(Killed):
            mined(world, run)
    assert not list(left.parent.glob("svms-at-*"))
    mined(world, run)
    assert not list(left.parent.glob("svms-at-*"))
