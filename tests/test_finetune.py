"""Fine-tuning: its network, schedule and arithmetic, and that a kill changes no bit."""

import copy
import logging
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from test_batches import BOXES, CLASSES, HEIGHT, WIDTH, Windows, made_batches, made_records
from torch import nn
from torch.nn.functional import cross_entropy

from detection.config import Finetune
from detection.features.extractor import SPPExtractor
from detection.networks.backbone import Backbone, Preprocessing
from detection.networks.head import Head
from detection.training import finetune, pyramid_network
from detection.training.box_layer import box_layer, box_loss, box_targets
from detection.training.finetune import (
    curve_point,
    drawn_ahead,
    finetune_head,
    finite_loss,
    learning_rate_at,
    logits_of,
)
from detection.training.pyramid_network import PyramidNetwork, input_moments
from detection.training.window_pool import WindowPool

SCALES = (32, 48)
CHANNELS = 8
SETTINGS = Finetune(
    hidden=16,
    steps=20,
    batch=16,
    pictures=2,
    conv_pictures=2,
    learning_rate=0.01,
    scale="random",
    jitter=0,
    checkpoint_every=3,
)
OPTIMIZERS = pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
LAYERS = pytest.mark.parametrize("layers", ["fc", "conv4"])
CONVOLUTIONS = {"conv1": "0", "conv2": "3", "conv3": "5", "conv4": "7", "conv5": "9"}


class Killed(Exception):
    """Ends a training as a kill would."""


def dies_at(step):
    def progress(items, what, total):
        for item in items:
            if item == step:
                raise Killed
            yield item

    return progress


def made_backbone():
    """Five small convolutions; a cell is four pixels."""
    trunk = nn.Sequential(
        *(nn.Conv2d(3, CHANNELS, 3, stride=2, padding=1), nn.ReLU(inplace=True)),
        nn.MaxPool2d(3, stride=2, padding=1),
        *(nn.Conv2d(CHANNELS, 6, 3, padding=1), nn.ReLU(inplace=True)),
        *(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(inplace=True)),
        *(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(inplace=True)),
        *(nn.Conv2d(6, CHANNELS, 3, padding=1), nn.ReLU(inplace=True)),
    )
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for layer in trunk:
            if isinstance(layer, nn.Conv2d):
                fan_in = layer.weight[0].numel()
                layer.weight.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
                layer.bias.zero_()
    return Backbone("tiny", trunk, Preprocessing("rgb", (110.0,) * 3, (40.0,) * 3), shrink=0.5)


def made_network(settings=SETTINGS):
    extractor = SPPExtractor(made_backbone(), SCALES)
    head = Head(extractor.length, CLASSES, settings.hidden, settings.dropout)
    head.initialise(torch.Generator().manual_seed(0), 3.0)
    boxes = box_layer(settings.hidden, CLASSES) if settings.box_loss else None
    return PyramidNetwork(extractor, head, settings.layers, boxes)


class WindowsApart(Windows):
    """Windows that are easily told apart: on an object, or 20 pixels above or below one."""

    def load(self, path):
        rng = np.random.default_rng(int(path.stem))
        boxes = np.array(BOXES)[rng.integers(2, size=80)] + rng.integers(-2, 3, (80, 4))
        boxes[20:, 1::2] += rng.choice([-20, 20], (60, 1))
        return np.unique(boxes.clip(0, [WIDTH, HEIGHT] * 2), axis=0).astype(np.float32)


def window_batches(records, settings=SETTINGS, seed=0, store=None):
    extractor = SPPExtractor(made_backbone(), SCALES)
    store = Windows(60) if store is None else store
    return made_batches(records, settings, seed, extractor=extractor, store=store)


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
    def call(settings=SETTINGS, network=None, held_back=None, key="key", seed=0, **options):
        network = made_network(settings) if network is None else network
        head = finetune_head(
            network,
            window_batches(records, settings, seed),
            held_back,
            settings,
            checkpoint=checkpoint,
            key=key,
            **options,
        )
        assert head is network.head
        return network

    return call


def same(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def changed(one, other):
    """Names of the parameters that differ."""
    other = other.state_dict()
    return {name for name, value in one.state_dict().items() if not torch.equal(value, other[name])}


def names_of(layers):
    """The parameters trained from a layer on."""
    known = sorted(CONVOLUTIONS)
    convolutions = [] if layers == "fc" else known[known.index(layers) :]
    trained = [f"trunk.{CONVOLUTIONS[name]}" for name in convolutions]
    trained += ["head.fc6", "head.fc7", "head.fc8"]
    return {f"{layer}.{kind}" for layer in trained for kind in ("weight", "bias")}


@pytest.mark.parametrize("layers", ["fc", "conv5", "conv4", "conv3", "conv2"])
def test_what_is_trained(train, layers):
    settings = replace(SETTINGS, layers=layers, steps=2)
    start = made_network(settings)
    assert start.trained().keys() == names_of(layers)
    assert len(start.convolutions) == (0 if layers == "fc" else 6 - int(layers[-1]))
    network = train(settings)
    assert changed(network, start) == names_of(layers)
    # What extracts features later is what was trained.
    assert network.trunk is network.extractor.backbone.trunk is network.extractor.trunk
    # A network that trained convolutions before can train its head alone.
    again = PyramidNetwork(network.extractor, network.head)
    assert again.trained().keys() == names_of("fc")


@LAYERS
def test_logits_are_those_of_the_views_one_after_the_other(records, layers):
    network = made_network(replace(SETTINGS, layers=layers))
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


def test_stages_of_several_convolutions():
    network = made_network()
    backbone = Backbone(
        "other", network.trunk, network.extractor.backbone.preprocessing, stages=(0, 1, 1, 2, 4)
    )
    extractor = SPPExtractor(backbone, SCALES)
    for layers, count in (("fc", 0), ("conv5", 1), ("conv4", 3), ("conv3", 4), ("conv2", 4)):
        assert len(PyramidNetwork(extractor, network.head, layers).convolutions) == count


def test_moments_of_pooled_windows(records, monkeypatch):
    monkeypatch.setattr(pyramid_network, "MOMENT_PICTURES", 5)
    network, batches = made_network(), window_batches(records)
    rows = torch.cat(
        [network.pooled(view).detach() for step in range(3) for view in batches.draw(step)]
    ).double()
    mean, spread = input_moments(network, batches)
    assert mean.dtype == torch.float32
    torch.testing.assert_close(mean.double(), rows.mean(dim=0), rtol=1e-6, atol=1e-6)
    assert spread == pytest.approx(rows.var(dim=0, correction=0).mean().item())
    with torch.no_grad():
        network.trunk[-2].weight.zero_()
    with pytest.raises(ValueError, match=r"all pooled features are the same; .*check the weights"):
        input_moments(network, batches)


def test_a_centred_head_becomes_one_of_pooled_windows(records):
    network = made_network(SETTINGS)
    network.mean.uniform_(0, 3, generator=torch.Generator().manual_seed(5))
    view = window_batches(records).draw(0)[0]
    network.eval()
    before, pooled = network([view]), network.pooled(view)
    after = network.head.shift_input(network.mean)(pooled)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


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
        layers=layers,
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
        layers=layers,
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
        pooled, labels = WindowPool(batches, start.pooled, batches.num_classes).draw(0)
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
    settings = replace(SETTINGS, layers="conv2", conv_rate=0.0, optimizer=optimizer)
    assert changed(train(settings), made_network(settings)) == names_of("fc")


@LAYERS
@OPTIMIZERS
@pytest.mark.parametrize("kills", [(1,), (6, 7, 19), (13, 13)])
def test_a_killed_training_ends_with_the_same_bits(
    checkpoint, train, caplog, optimizer, layers, kills
):
    settings = replace(SETTINGS, optimizer=optimizer, layers=layers)
    undisturbed = train(settings)
    checkpoint.unlink()
    caplog.set_level(logging.INFO)
    for step in kills:
        with pytest.raises(Killed):
            train(settings, progress=dies_at(step))
    assert same(train(settings), undisturbed)
    last = kills[-1] // 3 * 3
    assert (f"fine-tuning goes on from step {last}" in caplog.text) == (last > 0)


@OPTIMIZERS
@pytest.mark.parametrize("layers", ["fc", "conv5", "conv3"])
def test_a_checkpoint_holds_what_is_trained(checkpoint, train, optimizer, layers):
    settings = replace(SETTINGS, layers=layers, optimizer=optimizer)
    with pytest.raises(Killed):
        train(settings, progress=dies_at(6))
    averages = ("exp_avg", "exp_avg_sq", "step") if optimizer == "adamw" else ("momentum_buffer",)
    with safe_open(checkpoint, "pt") as file:
        names = set(file.keys())
        assert file.metadata() == {"key": "key", "step": "6"}
    expected = {f"network.{name}" for name in names_of(layers)}
    expected |= {f"optimizer.{kind}.{name}" for kind in averages for name in names_of(layers)}
    assert names == expected


def test_a_killed_training_of_boxes_ends_with_the_same_bits(train, checkpoint):
    settings = replace(SETTINGS, layers="conv4", box_loss=1.0)
    network, killed = made_network(settings), made_network(settings)
    train(settings, network)
    checkpoint.unlink()
    with pytest.raises(Killed):
        train(settings, killed, progress=dies_at(7))
    killed = made_network(settings)
    train(settings, killed)
    assert network.boxes.weight.abs().max() > 0
    for name, value in network.state_dict().items():
        assert torch.equal(value, killed.state_dict()[name]), name


def test_boxes_are_learned_down_to_the_convolutions(records, checkpoint):
    settings = replace(
        SETTINGS,
        layers="conv4",
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


@LAYERS
def test_checkpoint_times_change_nothing(checkpoint, train, layers):
    settings = replace(SETTINGS, layers=layers)
    one = train(settings)
    checkpoint.unlink()
    assert same(one, train(replace(settings, checkpoint_every=100)))
    assert not checkpoint.exists()


def test_a_checkpoint_of_another_training_is_ignored(train):
    undisturbed = train()
    with pytest.raises(Killed):
        train(replace(SETTINGS, learning_rate=0.5), key="other", progress=dies_at(10))
    assert same(train(), undisturbed)


def test_optimizers_differ(checkpoint, train):
    one = train()
    checkpoint.unlink()
    assert not same(one, train(replace(SETTINGS, optimizer="sgd")))


@LAYERS
@OPTIMIZERS
def test_a_checkpoint_without_momentum(train, optimizer, layers):
    settings = replace(SETTINGS, momentum=0.0, optimizer=optimizer, layers=layers)
    undisturbed = train(replace(settings, checkpoint_every=100))
    with pytest.raises(Killed):
        train(settings, progress=dies_at(10))
    assert same(train(settings), undisturbed)


@pytest.mark.parametrize("damage", ["cut", "empty", "garbled"])
def test_a_damaged_checkpoint_is_refused(checkpoint, train, damage):
    with pytest.raises(Killed):
        train(progress=dies_at(10))
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes({"cut": whole[:-10], "empty": b"", "garbled": b"x" * 500}[damage])
    message = rf"{checkpoint} is not a fine-tuning checkpoint \(.*\); delete it and run again"
    with pytest.raises(ValueError, match=message):
        train()
    checkpoint.unlink()
    train()


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


def test_no_curve_without_held_back_pictures(train):
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
    settings = replace(SETTINGS, steps=60, layers=layers)
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


class Recorded:
    """Batches that say what was drawn, and when a step's was."""

    def __init__(self, broken=None):
        self.broken = broken
        self.steps = []
        self.was_drawn = [threading.Event() for _ in range(20)]

    def draw(self, step):
        self.steps.append(step)
        self.was_drawn[step].set()
        if step == self.broken:
            raise ValueError(f"picture of step {step}")
        return [step]


def test_one_step_is_drawn_ahead():
    batches = Recorded()
    for number, (step, views) in enumerate(drawn_ahead(range(5, 9), batches)):
        assert step == 5 + number
        assert views == [step]
        # While this step is computed the next is read, and no other.
        assert batches.was_drawn[step + 1].wait(30)
        assert batches.steps == list(range(5, step + 2))
    assert number == 3
    assert list(drawn_ahead(range(5, 5), Recorded())) == []


def test_a_picture_that_cannot_be_read_ends_its_own_step():
    steps = drawn_ahead(range(6), Recorded(broken=2))
    assert [next(steps)[0], next(steps)[0]] == [0, 1]
    with pytest.raises(ValueError, match="picture of step 2"):
        next(steps)


def test_no_thread_is_left_behind():
    before = threading.active_count()
    assert len(list(drawn_ahead(range(3), Recorded()))) == 3
    assert threading.active_count() == before
    steps = drawn_ahead(range(9), Recorded())
    next(steps)
    assert threading.active_count() == before + 1
    steps.close()
    assert threading.active_count() == before
