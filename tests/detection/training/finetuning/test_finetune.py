"""Fine-tuning: that it learns, its learning curve, and batches drawn ahead."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_batches import BOXES, HEIGHT, WIDTH, Windows, made_records
from made_network import (
    LAYERS,
    SETTINGS,
    changed,
    made_network,
    names_of,
    same,
    window_batches,
)

from detection.training.finetuning import finetune
from detection.training.finetuning.descent import Descent
from detection.training.finetuning.finetune import finetune_head
from detection.training.finetuning.learning_curve import LearningCurve, logits_of, pooled_batch


class WindowsApart(Windows):
    """Windows that are easy to classify: on an object, or 20 pixels above or below one."""

    def load(self, path):
        rng = np.random.default_rng(int(path.stem))
        boxes = np.array(BOXES)[rng.integers(2, size=80)] + rng.integers(-2, 3, (80, 4))
        boxes[20:, 1::2] += rng.choice([-20, 20], (60, 1))
        return np.unique(boxes.clip(0, [WIDTH, HEIGHT] * 2), axis=0).astype(np.float32)


@pytest.fixture
def held_back(tmp_path):
    return window_batches(made_records(tmp_path, 3, first=100), seed=1)


@pytest.mark.parametrize(
    ("layers", "optimizer", "rate"),
    [
        ("fc", "adamw", 0.003),
        ("conv3", "adamw", 0.003),
        ("fc", "sgd", 0.03),
        ("conv3", "sgd", 0.03),
    ],
)
def test_the_loss_falls(tmp_path, checkpoint, monkeypatch, layers, optimizer, rate):
    monkeypatch.setattr(finetune, "CURVE_EVERY", 30)
    settings = replace(
        SETTINGS,
        train_from=layers,
        optimizer=optimizer,
        learning_rate=rate,
        conv_rate=0.5,
        hidden=96,
        steps=200,
        batch=32,
        dropout=0.1,
    )
    events = []
    network = made_network(settings)
    held_back = window_batches(made_records(tmp_path, 6, first=100), seed=1, store=WindowsApart())
    start = LearningCurve(network, held_back, autocast=False).point()
    finetune_head(
        Descent(network, settings, 0),
        window_batches(made_records(tmp_path, 12), settings, store=WindowsApart()),
        held_back,
        checkpoint,
        "key",
        report=events.append,
    )
    assert [event["step"] for event in events] == [30, 60, 90, 120, 150, 180, 200]
    assert all(np.isfinite(list(event.values())).all() for event in events)
    assert events[-1]["train_loss"] < events[0]["train_loss"] / 3
    assert start["held_back_object_error"] > 0.5
    assert events[-1]["held_back_loss"] < start["held_back_loss"] / 10
    assert events[-1]["held_back_error"] < 0.05
    assert events[-1]["held_back_object_error"] < 0.1
    assert not network.head.training


def test_seeds_differ(train, checkpoint):
    one = train()
    checkpoint.unlink()
    assert not same(one, train(seed=1))


def test_optimizers_differ(checkpoint, train):
    one = train()
    checkpoint.unlink()
    assert not same(one, train(replace(SETTINGS, optimizer="sgd")))


@LAYERS
def test_who_reads_the_images_changes_nothing(checkpoint, train, layers):
    settings = replace(SETTINGS, train_from=layers)
    by_processes = train(settings, readers=2)
    checkpoint.unlink()
    assert same(by_processes, train(settings))


def test_no_curve_without_held_back_images(train):
    events = []
    train(report=events.append)
    assert [event.keys() for event in events] == [{"step", "train_loss"}]


def test_the_curve_changes_no_bit(train, held_back, checkpoint, monkeypatch):
    undisturbed = train()
    checkpoint.unlink()
    monkeypatch.setattr(finetune, "CURVE_EVERY", 4)
    assert same(train(held_back=held_back), undisturbed)


@LAYERS
def test_bfloat16_products(train, records, layers):
    settings = replace(SETTINGS, steps=60, train_from=layers)
    network = made_network(settings)
    network.head.eval()
    views = window_batches(records).draw(0)
    exact, near = (
        logits_of(network, pooled_batch(network, views, autocast)[0], autocast)
        for autocast in (False, True)
    )
    assert near.dtype == torch.float32
    assert 0 < (near - exact).norm() < 0.05 * exact.norm()
    events = []
    train(replace(settings, checkpoint_every=100), report=events.append)
    network = train(settings, autocast=True, report=events.append)
    assert events[0]["train_loss"] != events[1]["train_loss"]
    assert events[1]["train_loss"] == pytest.approx(events[0]["train_loss"], rel=0.1)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert changed(network, made_network(settings)) == names_of(layers)
