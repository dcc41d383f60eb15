"""Fine-tuning: its batches, its schedule, its arithmetic, and that a kill changes no bit."""

import copy
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from detection.config import Finetune
from detection.networks.head import Head
from detection.training import finetune
from detection.training.finetune import (
    PICTURES_AT_ONCE,
    BatchSampler,
    curve_batches,
    finetune_head,
    finite_loss,
    learning_rate_at,
    mean_square,
)
from detection.training.window_bank import BankEntry, RowFile
from proposals.disk import save_array

CLASSES = 3
LENGTH = 50
SETTINGS = Finetune(hidden=8, steps=20, batch=16, learning_rate=0.05, checkpoint_every=3)
OPTIMIZERS = pytest.mark.parametrize("optimizer", ["adamw", "sgd"])


class Killed(Exception):
    """Ends a training as a kill would."""


def dies_at(step):
    def progress(items, what, total):
        for item in items:
            if item == step:
                raise Killed
            yield item

    return progress


def made_entries(folder, pictures=4, labels=(0, 1, 2, 3, 3, 3), seed=0):
    """Pictures whose rows tell their class: 4 in its own ten places, noise elsewhere."""
    rng = np.random.default_rng(seed)
    entries = []
    for number in range(pictures):
        rows = rng.random((len(labels) + 2, LENGTH))
        for row, label in zip(rows, labels, strict=False):
            row[10 * label : 10 * label + 10] += 4
        path = folder / f"{seed}-{number}.npy"
        save_array(path, rows.astype(np.float16))
        none = np.zeros((0, 4), np.float32)
        of_rows = np.array(labels, np.int64)
        entry = BankEntry(RowFile.open(path), of_rows, 0, none, none, np.zeros(0, np.int64))
        entries.append(entry)
    return entries


def made_head(dropout=0.5):
    head = Head(LENGTH, CLASSES, SETTINGS.hidden, dropout)
    head.initialise(torch.Generator().manual_seed(0), 3.0)
    return head


def made_sampler(entries, batch=16, share=0.25, seed=0):
    return BatchSampler(entries, CLASSES, batch=batch, positive_share=share, seed=seed)


@pytest.fixture
def train(tmp_path):
    entries = made_entries(tmp_path)

    def call(settings=SETTINGS, head=None, held_back=(), key="key", **options):
        return finetune_head(
            options.pop("entries", entries),
            held_back,
            made_head(settings.dropout) if head is None else head,
            settings,
            checkpoint=tmp_path / "head.checkpoint",
            key=key,
            seed=options.pop("seed", 0),
            **options,
        )

    return call


def same(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("batch", "share", "positives"), [(128, 0.25, 32), (16, 0.25, 4), (4, 0.01, 1), (10, 0.5, 5)]
)
def test_share_of_positives(tmp_path, batch, share, positives):
    pooled, labels = made_sampler(made_entries(tmp_path), batch, share).draw(0)
    assert pooled.shape == (batch, LENGTH)
    assert pooled.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert (labels != CLASSES).sum() == positives
    # The row is one of the label's class.
    assert torch.equal(pooled.view(batch, 5, 10).mean(dim=2).argmax(dim=1), labels)


def test_a_batch_is_a_function_of_seed_and_step(tmp_path):
    entries = made_entries(tmp_path)
    one, other = made_sampler(entries), made_sampler(entries)
    forward = [one.draw(step) for step in range(4)]
    backward = [other.draw(step) for step in reversed(range(4))][::-1]
    for first, second in zip(forward, backward, strict=True):
        assert torch.equal(first[0], second[0])
        assert torch.equal(first[1], second[1])
    assert not torch.equal(forward[0][0], forward[1][0])
    assert not torch.equal(forward[0][0], made_sampler(entries, seed=1).draw(0)[0])


def test_every_row_is_drawn(tmp_path):
    entries = made_entries(tmp_path)
    sampler = made_sampler(entries)
    drawn = torch.cat([sampler.draw(step)[0] for step in range(60)])
    everything = np.concatenate([entry.finetune_rows.read() for entry in entries])
    assert len(torch.unique(drawn, dim=0)) == len(everything) == 24


def pictures_in_order(count, seed, epochs):
    """Permutation after permutation of all pictures."""
    return np.concatenate(
        [np.random.default_rng([seed, 1, epoch]).permutation(count) for epoch in range(epochs)]
    ).tolist()


@pytest.mark.parametrize(("count", "at_once"), [(7, 3), (7, 6), (8, 1), (3, 2)])
def test_pictures_of_a_step(tmp_path, monkeypatch, count, at_once):
    monkeypatch.setattr(finetune, "PICTURES_AT_ONCE", at_once)
    entries = made_entries(tmp_path, count)
    sampler = made_sampler(entries, seed=5)
    steps = range(4 * count)
    found = [sampler.pictures_at(step) for step in steps]
    order = pictures_in_order(count, 5, 6)
    for step, pictures in zip(steps, found, strict=True):
        # The sequence moves on by a picture a step; a picture twice among these is held once.
        assert pictures == list(dict.fromkeys(order[step : step + at_once]))
        assert at_once / 2 <= len(pictures) <= at_once
        assert len(set(pictures)) == len(pictures)
    for epoch in range(4):
        assert set().union(*found[epoch * count : (epoch + 1) * count]) == set(range(count))
    other = made_sampler(entries, seed=5)
    assert [other.pictures_at(step) for step in reversed(steps)][::-1] == found
    other = made_sampler(entries, seed=6)
    assert [other.pictures_at(step) for step in steps] != found


def test_few_pictures_are_all_drawn_from(tmp_path, monkeypatch):
    sampler = made_sampler(made_entries(tmp_path))
    assert len(sampler.entries) <= PICTURES_AT_ONCE
    assert [sampler.pictures_at(step) for step in (0, 1, 999)] == [[0, 1, 2, 3]] * 3
    monkeypatch.setattr(finetune, "PICTURES_AT_ONCE", 4)
    assert sampler.pictures_at(3) == [0, 1, 2, 3]


def test_rows_come_from_the_pictures_of_the_step_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(finetune, "PICTURES_AT_ONCE", 2)
    entries = made_entries(tmp_path, 7)
    rows = [entry.finetune_rows.read().astype(np.float32).tolist() for entry in entries]
    sampler, alone = made_sampler(entries), [made_sampler(entries) for _ in range(14)]
    drawn = set()
    for step in range(14):
        pooled, labels = sampler.draw(step)
        assert torch.equal(pooled, alone[step].draw(step)[0])
        assert torch.equal(pooled.view(-1, 5, 10).mean(dim=2).argmax(dim=1), labels)
        owners = {
            picture for row in pooled.tolist() for picture in range(7) if row in rows[picture]
        }
        assert owners <= set(sampler.pictures_at(step))
        assert len(sampler._rows) <= 2
        drawn |= owners
    assert drawn == set(range(7))


@pytest.mark.parametrize(("labels", "kind"), [((3, 3), "objects"), ((0, 1), "background")])
def test_nothing_to_draw_from(tmp_path, train, labels, kind):
    entries = made_entries(tmp_path, 2, labels, seed=1)
    message = f"found no windows on {kind} in 2 pictures; .*make_proposals.py --report"
    with pytest.raises(ValueError, match=message):
        train(entries=entries)


def test_learning_rates():
    settings = replace(SETTINGS, steps=30, learning_rate=1.0)
    rates = [learning_rate_at(step, settings) for step in range(30)]
    # 2/3 of 30 are 20 steps, 9/10 are 27
    assert rates == [1.0] * 20 + [0.1] * 7 + [0.01] * 3
    assert learning_rate_at(0, replace(settings, steps=1)) == 1.0


def test_mean_square(tmp_path):
    entries = made_entries(tmp_path)
    rows = np.concatenate([entry.random_rows.read() for entry in entries]).astype(np.float64)
    assert rows.shape == (8, LENGTH)
    assert mean_square(entries) == pytest.approx((rows**2).mean())
    save_array(tmp_path / "dead.npy", np.zeros((8, LENGTH), np.float16))
    dead = replace(entries[0], pooled=RowFile.open(tmp_path / "dead.npy"))
    with pytest.raises(ValueError, match="all pooled features are 0"):
        mean_square([dead])


def test_the_loss_falls(tmp_path, train, monkeypatch):
    monkeypatch.setattr(finetune, "CURVE_EVERY", 20)
    held_back = made_entries(tmp_path, 2, seed=7)
    events = []
    settings = replace(SETTINGS, steps=150, dropout=0.1)
    head = train(settings, held_back=held_back, report=events.append)
    assert [event["step"] for event in events] == [20, 40, 60, 80, 100, 120, 140, 150]
    assert all(np.isfinite(list(event.values())).all() for event in events)
    assert events[-1]["train_loss"] < events[0]["train_loss"] / 2
    assert events[-1]["held_back_loss"] < events[0]["held_back_loss"] / 3
    assert events[-1]["held_back_error"] < 0.05
    assert not head.training
    pooled, labels = made_sampler(held_back).draw(0)
    assert torch.equal(head(pooled).argmax(dim=1), labels)


@OPTIMIZERS
def test_one_step_by_hand(tmp_path, train, optimizer):
    settings = replace(SETTINGS, steps=1, dropout=0.0, weight_decay=0.1, optimizer=optimizer)
    head = made_head(0.0)
    start = copy.deepcopy(head)
    train(settings, head)
    pooled, labels = made_sampler(made_entries(tmp_path)).draw(0)
    cross_entropy(start(pooled), labels).backward()
    for name, value in start.named_parameters():
        decay = 0.0 if name.endswith("bias") else 0.1
        # AdamW's first step: both running means are corrected to the gradient and its square.
        pull = value.grad / (value.grad.abs() + 1e-8) if optimizer == "adamw" else value.grad
        expected = value - 0.05 * (pull + decay * value)
        torch.testing.assert_close(head.get_parameter(name), expected, msg=name)
    assert head.input_scale == start.input_scale


@OPTIMIZERS
@pytest.mark.parametrize("kills", [(1,), (6, 7, 19), (13, 13)])
def test_a_killed_training_ends_with_the_same_bits(
    tmp_path, train, monkeypatch, caplog, optimizer, kills
):
    monkeypatch.setattr(finetune, "PICTURES_AT_ONCE", 3)  # of 4
    settings = replace(SETTINGS, optimizer=optimizer)
    undisturbed = train(settings)
    (tmp_path / "head.checkpoint").unlink()
    caplog.set_level(logging.INFO)
    for step in kills:
        with pytest.raises(Killed):
            train(settings, progress=dies_at(step))
    assert same(train(settings), undisturbed)
    last = kills[-1] // 3 * 3
    assert (f"fine-tuning goes on from step {last}" in caplog.text) == (last > 0)


def test_seeds_differ(train, tmp_path):
    one = train()
    (tmp_path / "head.checkpoint").unlink()
    assert not same(one, train(seed=1))


def test_checkpoint_times_change_nothing(tmp_path, train):
    one = train()
    (tmp_path / "head.checkpoint").unlink()
    assert same(one, train(replace(SETTINGS, checkpoint_every=100)))
    assert not (tmp_path / "head.checkpoint").exists()


def test_a_checkpoint_of_another_training_is_ignored(train):
    undisturbed = train()
    with pytest.raises(Killed):
        train(replace(SETTINGS, learning_rate=0.5), key="other", progress=dies_at(10))
    assert same(train(), undisturbed)


def test_optimizers_differ(tmp_path, train):
    one = train()
    (tmp_path / "head.checkpoint").unlink()
    assert not same(one, train(replace(SETTINGS, optimizer="sgd")))


@OPTIMIZERS
def test_a_checkpoint_without_momentum(train, optimizer):
    settings = replace(SETTINGS, momentum=0.0, optimizer=optimizer)
    undisturbed = train(replace(settings, checkpoint_every=100))
    with pytest.raises(Killed):
        train(settings, progress=dies_at(10))
    assert same(train(settings), undisturbed)


@pytest.mark.parametrize("damage", ["cut", "empty", "garbled"])
def test_a_damaged_checkpoint_is_refused(tmp_path, train, damage):
    with pytest.raises(Killed):
        train(progress=dies_at(10))
    path = tmp_path / "head.checkpoint"
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[:-10], "empty": b"", "garbled": b"x" * 500}[damage])
    message = rf"{path} is not a fine-tuning checkpoint \(.*\); delete it and run again"
    with pytest.raises(ValueError, match=message):
        train()
    path.unlink()
    train()


def test_a_loss_that_is_not_finite(train):
    head = made_head()
    with torch.no_grad():
        head.fc8.weight.fill_(torch.inf)
    message = (
        r"diverged at step 0: loss nan \(objects nan, background nan, largest logit nan\); "
        "try a lower --finetune.learning_rate"
    )
    with pytest.raises(RuntimeError, match=message):
        train(head=head)


def test_parts_of_a_loss_that_is_not_finite():
    logits = torch.tensor([[0.0, 0.0], [-torch.inf, 0.0]])
    assert finite_loss(logits[:1], torch.tensor([0]), 1, 4).item() == pytest.approx(np.log(2))
    # One object whose class has probability 0; the background's loss is log 2.
    message = r"step 4: loss inf \(objects inf, background 0.693"
    with pytest.raises(RuntimeError, match=message):
        finite_loss(logits, torch.tensor([1, 0]), 1, 4)


@pytest.mark.parametrize("labels", [None, (3, 3), (0, 1), ()])
def test_no_curve_without_held_back_objects_and_background(tmp_path, train, labels):
    events = []
    held_back = [] if labels is None else made_entries(tmp_path, 2, labels, seed=3)
    train(held_back=held_back, report=events.append)
    assert [event.keys() for event in events] == [{"step", "train_loss"}]


def test_the_curve_has_the_same_batches_each_time(tmp_path):
    held_back = made_entries(tmp_path, 2, seed=3)
    one, other = (curve_batches(held_back, CLASSES, SETTINGS) for _ in range(2))
    assert len(one) == finetune.CURVE_BATCHES
    for first, second in zip(one, other, strict=True):
        assert all(map(torch.equal, first, second))
    # An object in one picture and background in another are enough.
    apart = made_entries(tmp_path, 1, (0, 1), 4) + made_entries(tmp_path, 1, (3, 3), 5)
    assert len(curve_batches(apart, CLASSES, SETTINGS)) == finetune.CURVE_BATCHES


def test_the_curve_changes_no_bit(tmp_path, train, monkeypatch):
    undisturbed = train()
    (tmp_path / "head.checkpoint").unlink()
    monkeypatch.setattr(finetune, "CURVE_EVERY", 4)
    assert same(train(held_back=made_entries(tmp_path, 2, seed=3)), undisturbed)


def test_bfloat16_products(train):
    events = []
    head = train(replace(SETTINGS, steps=60), autocast=True, report=events.append)
    assert events[-1]["train_loss"] < 1.4
    assert {parameter.dtype for parameter in head.parameters()} == {torch.float32}
