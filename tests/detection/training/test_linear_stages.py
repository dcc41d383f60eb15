"""The stages of SVMs and box regression: their keys, and that a kill changes no byte."""

import logging
from dataclasses import replace
from itertools import groupby
from types import SimpleNamespace

import numpy as np
import pytest
from made_world import (
    CLASSES,
    CONFIG,
    IMAGES,
    LAYERS,
    LENGTH,
    FakeExtractor,
    Killed,
    artefact_bytes,
    artefacts,
    dies_before,
    events_of,
    made_world,
    svms_of,
)

from detection.data.records import Dataset
from detection.inference.layers import LayerFeatures
from detection.learners.bbox_regression import BoxRegressor
from detection.settings.data import Data
from detection.settings.training import BoxRegression, Svm
from detection.training.box_regression_stage import box_regression_stage


@pytest.fixture
def world(tmp_path):
    return made_world(tmp_path)


def test_svms_are_reused(world, caplog):
    caplog.set_level(logging.INFO)
    found = svms_of(world, world.run())
    assert "reused" not in caplog.text
    assert svms_of(world, world.run(workers=2)) == found
    for layer in LAYERS:
        assert f"SVMs on {layer}: reused" in caplog.text
    every = replace(CONFIG.svm, checkpoint_every=1)
    assert svms_of(world, world.run(svm=every)) == found
    assert len(artefacts(world.run(), "svms")) == len(LAYERS)
    assert len(events_of(world.run(), "stage")) == 1


def test_only_the_missing_layers_are_trained(world, caplog):
    """Layers trained in several calls, in any order, have the same bytes as in a single call."""
    together = svms_of(world, world.run("one"))
    caplog.set_level(logging.INFO)
    for layers in (("fc7",), ("fc7", "pool5"), ("fc6", "pool5"), ("fc6", "fc7", "pool5")):
        caplog.clear()
        before = len(artefacts(world.run("two"), "svms"))
        run = world.run("two", svm=replace(CONFIG.svm, layers=layers))
        found = svms_of(world, run)
        assert found == {layer: together[layer] for layer in layers}
        made = len(artefacts(run, "svms")) - before
        reused = [line for line in caplog.messages if ": reused" in line]
        assert len(reused) == len(layers) - made
        assert made == (0 if len(layers) == 3 else 1)
    assert artefact_bytes(world.run("one"), "svms") == artefact_bytes(world.run("two"), "svms")
    assert [event["stage"] for event in events_of(run, "stage")] == ["SVMs"] * 3
    trained = groupby(event["layer"] for event in events_of(run, "svm"))
    assert [layer for layer, _ in trained] == ["fc7", "pool5", "fc6"]
    reused = [event["stage"] for event in events_of(run, "reused")]
    assert reused == [f"SVMs on {layer}" for layer in ("fc7", "pool5", "fc6", "fc7", "pool5")]


def test_mirrored_images_give_positives_only(world):
    """The negatives are of each image once; a positive that is there twice counts twice."""
    once = svms_of(world, world.run("once"))
    world.data, world.entries = world.data.with_mirrored(), world.entries * 2
    twice = svms_of(world, world.run("twice"))
    for name, copies in (("once", 1), ("twice", 2)):
        (begun,) = events_of(world.run(name), "begin")
        assert begun["images"] == IMAGES
        first = events_of(world.run(name), "svm")[0]
        assert first["positives"] == copies * IMAGES
        assert first["negatives"] <= IMAGES * 12
    assert all(once[layer] != twice[layer] for layer in LAYERS)


def test_svms_without_a_head(world):
    world.features = LayerFeatures(None, {"pool5": 1.5})
    run = world.run(svm=replace(CONFIG.svm, layers=("pool5",)))
    assert len(svms_of(world, run)["pool5"]) == 4 * 2 * (LENGTH + 1)


def test_keys_of_svms(world):
    one = replace(CONFIG.svm, layers=("fc6",))
    changes = [
        *({"svm": replace(one, **change)} for change in ({}, {"C": 0.1}, {"negative_iou": 0.5})),
        *({"svm": replace(one, **change)} for change in ({"refit_every": 50}, {"bias": 1.0})),
        {"svm": one, "seed": 1},
        {"svm": one, "data": Data(difficult=True)},
    ]
    for change in changes:
        svms_of(world, world.run(**change))
    run = world.run(svm=one)
    svms_of(world, run, "other head")
    svms_of(world, run, extractor=FakeExtractor(scales=[688]))
    world.windows.method.key = "other windows"
    svms_of(world, run)
    world.data = Dataset(world.data.records[1:], CLASSES)
    world.entries = world.entries[1:]
    svms_of(world, run)
    assert len(artefacts(run, "svms")) == len(changes) + 4
    svms_of(world, world.run(svm=one, bbox=BoxRegression(ridge=1.0), workers=5))
    assert len(artefacts(run, "svms")) == len(changes) + 4


@pytest.mark.parametrize("kills", [(1,), (2,), (3, 1), (5, 0), (4, 1, 1)])
def test_killed_svms_end_with_the_same_bytes(world, caplog, kills):
    undisturbed = svms_of(world, world.run("one"))
    for image in kills:  # counted from the first image of the call
        with pytest.raises(Killed):
            svms_of(world, world.run("two", dies_before(image)))
    caplog.set_level(logging.INFO)
    assert svms_of(world, world.run("two")) == undisturbed
    # A checkpoint is written at the end of a block, here after 2 and 4 images.
    assert ("SVMs resume at image" in caplog.text) == (kills != (1,))
    assert not (world.run("two").folder / "stages/svms.checkpoint").exists()
    assert artefact_bytes(world.run("one"), "svms") == artefact_bytes(world.run("two"), "svms")


def test_box_regression_reads_pooled_features_as_they_are(world, caplog):
    caplog.set_level(logging.INFO)
    run, factor = world.run(bbox=BoxRegression(ridge=100.0)), 2.5
    regressor = box_regression_stage(
        run, run.config.bbox, world.data, world.bank, world.entries, factor
    )
    rows, windows, targets, classes = (
        np.concatenate([part(entry) for entry in world.entries])
        for part in (
            lambda entry: entry.regression_rows.read().astype(np.float32),
            lambda entry: entry.windows,
            lambda entry: entry.targets,
            lambda entry: entry.classes,
        )
    )
    expected = BoxRegressor(100.0).fit(rows * factor, windows, targets, classes)
    np.testing.assert_allclose(
        regressor.predict(rows, windows), expected.predict(rows * factor, windows), atol=0.01
    )
    unscaled = BoxRegressor(100.0).fit(rows, windows, targets, classes)
    assert np.abs(regressor.predict(rows, windows) - unscaled.predict(rows, windows)).max() > 0.1
    assert "box regression: reused" not in caplog.text
    again = box_regression_stage(
        run, run.config.bbox, world.data, world.bank, world.entries, factor
    )
    assert "box regression: reused" in caplog.text
    np.testing.assert_array_equal(again.weights_, regressor.weights_)


def test_keys_of_box_regression(world):
    other = SimpleNamespace(key="other")
    for ridge, bank in ((1.0, world.bank), (2.0, world.bank), (1.0, other)):
        run = world.run(bbox=BoxRegression(ridge=ridge))
        box_regression_stage(run, run.config.bbox, world.data, bank, world.entries, 2.0)
    run = world.run(bbox=BoxRegression(ridge=1.0), seed=5, workers=3, svm=Svm(C=9))
    box_regression_stage(
        run,
        run.config.bbox,
        world.data,
        world.bank,
        world.entries,
        2.0,
    )
    assert len(artefacts(world.run(), "box-regression")) == 3
    shape = (world.entries[0].rows.length + 1, 4)
    for prior in (np.zeros(shape, np.float32), np.ones(shape, np.float32)):
        box_regression_stage(
            run, run.config.bbox, world.data, world.bank, world.entries, 2.0, prior
        )
    assert len(artefacts(world.run(), "box-regression")) == 5
