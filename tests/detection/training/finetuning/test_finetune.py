"""Fine-tuning: its schedule and arithmetic, its learning curve, and batches drawn ahead."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_batches import BOXES, CLASSES, HEIGHT, WIDTH, Windows, made_records
from made_network import (
    LAYERS,
    OPTIMIZERS,
    SCALES,
    SETTINGS,
    changed,
    made_network,
    made_training,
    names_of,
    same,
    window_batches,
)
from torch.nn.functional import cross_entropy

from detection.features.extractor import SPPExtractor
from detection.ranks import Ranks
from detection.training.finetuning import finetune
from detection.training.finetuning.box_layer import box_loss, box_targets
from detection.training.finetuning.finetune import (
    curve_point,
    finetune_head,
    finite_loss,
    learning_rate_at,
    logits_of,
)
from detection.training.finetuning.shuffle_buffer import ShuffleBuffer


class WindowsApart(Windows):
    """Windows that are easily told apart: on an object, or 20 pixels above or below one."""

    def load(self, path):
        rng = np.random.default_rng(int(path.stem))
        boxes = np.array(BOXES)[rng.integers(2, size=80)] + rng.integers(-2, 3, (80, 4))
        boxes[20:, 1::2] += rng.choice([-20, 20], (60, 1))
        return np.unique(boxes.clip(0, [WIDTH, HEIGHT] * 2), axis=0).astype(np.float32)


@pytest.fixture
def records(tmp_path):
    return made_records(tmp_path)


@pytest.fixture
def held_back(tmp_path):
    return window_batches(made_records(tmp_path, 3, first=100), seed=1)


@pytest.fixture
def checkpoint(tmp_path):
    return tmp_path / "stages" / "head.checkpoint"


@pytest.fixture
def train(records, checkpoint):
    return made_training(records, checkpoint)


@LAYERS
def test_logits_are_those_of_the_views_one_after_the_other(records, layers):
    network = made_network(replace(SETTINGS, train_from=layers))
    network.head.eval()
    views = window_batches(records).draw(0) + window_batches(records).draw(1)
    logits, labels = logits_of(network, views, autocast=False)
    assert logits.shape == (32, CLASSES + 1)
    assert labels.dtype == torch.int64
    assert labels.tolist() == [label for view in views for label in view.labels]
    expected = [
        network.head(network.extractor.features_at(view.image, view.windows, view.scale))
        for view in views
    ]
    torch.testing.assert_close(logits, torch.cat(expected))
    # features_at is the pooling of everything else, at one scale.
    for view in views:
        alone = SPPExtractor(network.extractor.backbone, SCALES[view.scale : view.scale + 1])
        found = alone.features(view.image, view.windows)
        pooled = network.extractor.features_at(view.image, view.windows, view.scale)
        assert torch.equal(pooled, found.pooled[found.index])


def test_learning_rates():
    settings = replace(SETTINGS, steps=30, learning_rate=1.0)
    rates = [learning_rate_at(step, settings) for step in range(30)]
    # 2/3 of 30 are 20 steps, 9/10 are 27
    assert rates == [1.0] * 20 + [0.1] * 7 + [0.01] * 3
    assert learning_rate_at(0, replace(settings, steps=1)) == 1.0


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
    start = curve_point(network, held_back, autocast=False)
    finetune_head(
        network,
        window_batches(made_records(tmp_path, 12), settings, store=WindowsApart()),
        held_back,
        settings,
        checkpoint=checkpoint,
        key="key",
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


@OPTIMIZERS
@pytest.mark.parametrize("layers", ["fc", "conv3"])
def test_one_step_by_hand(records, train, optimizer, layers):
    settings = replace(
        SETTINGS,
        train_from=layers,
        steps=1,
        learning_rate=0.05,
        conv_rate=0.4,
        dropout=0.0,
        weight_decay=0.1,
        optimizer=optimizer,
    )
    start = made_network(settings)
    with torch.no_grad():
        for name, value in start.named_parameters():
            if name.endswith("bias"):
                value.fill_(0.2)
    network = train(settings, copy.deepcopy(start))
    batches = window_batches(records)
    if layers == "fc":
        pooled, labels, _ = ShuffleBuffer(
            batches, batches.draw, start.pooled, batches.num_classes, start.extractor.length
        ).draw(0)
        logits = start.head(pooled)
    else:
        views = batches.draw(0)
        labels = torch.from_numpy(np.concatenate([view.labels for view in views]))
        logits = start(views)
    cross_entropy(logits, labels).backward()
    for name, value in start.named_parameters():
        if name not in names_of(layers):
            assert value.grad is None
            assert torch.equal(network.get_parameter(name), value)
            continue
        decay = 0.0 if name.endswith("bias") else 0.1
        rate = 0.05 * (0.4 if name.startswith("trunk.") else 1.0)
        # AdamW's first step: both running means are corrected to the gradient and its square.
        pull = value.grad / (value.grad.abs() + 1e-8) if optimizer == "adamw" else value.grad
        expected = value - rate * (pull + decay * value)
        torch.testing.assert_close(network.get_parameter(name), expected, msg=name)
    assert network.head.input_scale == start.head.input_scale


@OPTIMIZERS
def test_convolutions_of_rate_0_stay(train, optimizer):
    settings = replace(SETTINGS, train_from="conv2", conv_rate=0.0, optimizer=optimizer)
    assert changed(train(settings), made_network(settings)) == names_of("fc")


def test_boxes_are_learned_down_to_the_convolutions(records, checkpoint):
    settings = replace(
        SETTINGS,
        train_from="conv4",
        box_loss=1.0,
        hidden=32,
        dropout=0.0,
        positive_share=0.5,
        learning_rate=0.003,
        steps=400,
    )
    batches, network = window_batches(records, settings), made_network(settings)
    finetune_head(network, batches, None, settings, checkpoint=checkpoint, key="boxes")
    views = [view for step in range(400, 420) for view in batches.draw(step)]
    labels = torch.from_numpy(np.concatenate([view.labels for view in views]))
    pooled = torch.cat([network.pooled(view) for view in views])
    moves, targets = network.boxes(network.fc7(pooled)), box_targets(views)
    loss = box_loss(moves, targets, labels)
    assert loss < 0.7 * box_loss(torch.zeros_like(moves), targets, labels)
    network.zero_grad()
    loss.backward()
    assert network.trunk[7].weight.grad.abs().max() > 0


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


def test_a_loss_that_is_not_finite(train):
    network = made_network()
    with torch.no_grad():
        network.head.fc8.weight.fill_(torch.inf)
    message = (
        r"diverged at step 0: loss nan \(objects nan, background nan, largest logit nan\); "
        "try a lower --finetune.learning_rate"
    )
    with pytest.raises(RuntimeError, match=message):
        train(network=network)


def test_parts_of_a_loss_that_is_not_finite():
    logits = torch.tensor([[0.0, 0.0], [-torch.inf, 0.0]])
    assert finite_loss(logits[:1], torch.tensor([0]), 1, 4).item() == pytest.approx(np.log(2))
    # One object whose class has probability 0; the background's loss is log 2.
    message = r"step 4: loss inf \(objects inf, background 0.693"
    with pytest.raises(RuntimeError, match=message):
        finite_loss(logits, torch.tensor([1, 0]), 1, 4)


def test_no_curve_without_held_back_images(train):
    events = []
    train(report=events.append)
    assert [event.keys() for event in events] == [{"step", "train_loss"}]


@pytest.mark.parametrize(("most", "batches"), [(32, 3), (2, 2)])
def test_the_curve_by_hand(held_back, monkeypatch, most, batches):
    monkeypatch.setattr(finetune, "CURVE_BATCHES", most)
    network = made_network()
    losses, misses, object_misses = [], [], []
    network.head.eval()
    for step in range(batches):
        for view in held_back.draw(step):
            pooled = network.extractor.features_at(view.image, view.windows, view.scale)
            for logits, label in zip(network.head(pooled).tolist(), view.labels, strict=True):
                losses.append(np.log(np.exp(logits).sum()) - logits[label])
                misses.append(np.argmax(logits) != label)
                if label < CLASSES:
                    object_misses.append(misses[-1])
    network.head.train()
    found = curve_point(network, held_back, autocast=False)
    assert not network.head.training
    assert found == {
        "held_back_loss": pytest.approx(np.mean(losses)),
        "held_back_error": pytest.approx(np.mean(misses)),
        "held_back_object_error": pytest.approx(np.mean(object_misses)),
    }
    assert curve_point(network, held_back, autocast=False) == found


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
    exact, near = (logits_of(network, views, autocast)[0] for autocast in (False, True))
    assert near.dtype == torch.float32
    assert 0 < (near - exact).norm() < 0.05 * exact.norm()
    events = []
    train(replace(settings, checkpoint_every=100), report=events.append)
    network = train(settings, autocast=True, report=events.append)
    assert events[0]["train_loss"] != events[1]["train_loss"]
    assert events[1]["train_loss"] == pytest.approx(events[0]["train_loss"], rel=0.1)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert changed(network, made_network(settings)) == names_of(layers)


def test_each_process_needs_an_image_to_train_convolutions(records, train):
    ranks = Ranks(0, 3, torch.device("cpu"))
    with pytest.raises(ValueError, match="3 processes train convolutions on 2 images a batch"):
        train(replace(SETTINGS, train_from="conv4"), ranks=ranks)
