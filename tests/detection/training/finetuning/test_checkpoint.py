"""Checkpoints of fine-tuning: that a kill changes no bit, and which are refused."""

import logging
from dataclasses import replace

import pytest
import torch
from damage import WAYS, damaged
from made_batches import made_records
from made_network import (
    LAYERS,
    OPTIMIZERS,
    SETTINGS,
    made_network,
    names_of,
    same,
    window_batches,
)

from detection.training.finetuning.descent import Descent
from detection.training.finetuning.finetune import finetune_head
from files.artefacts import read_artefact


class Killed(Exception):
    """Ends a training as a kill would."""


def dies_at(step):
    def progress(items, what, total):
        for item in items:
            if item == step:
                raise Killed
            yield item

    return progress


@LAYERS
@OPTIMIZERS
@pytest.mark.parametrize("kills", [(1,), (6, 7, 19), (13, 13)])
def test_a_killed_training_ends_with_the_same_bits(
    checkpoint, train, caplog, optimizer, layers, kills
):
    settings = replace(SETTINGS, optimizer=optimizer, train_from=layers)
    undisturbed = train(settings)
    checkpoint.unlink()
    caplog.set_level(logging.INFO)
    for step in kills:
        with pytest.raises(Killed):
            train(settings, progress=dies_at(step))
    assert same(train(settings), undisturbed)
    last = kills[-1] // 3 * 3
    assert (f"fine-tuning resumes at step {last}" in caplog.text) == (last > 0)


@OPTIMIZERS
@pytest.mark.parametrize("layers", ["fc", "conv5", "conv3"])
def test_a_checkpoint_holds_what_is_trained(checkpoint, train, optimizer, layers):
    settings = replace(SETTINGS, train_from=layers, optimizer=optimizer)
    with pytest.raises(Killed):
        train(settings, progress=dies_at(6))
    averages = ("exp_avg", "exp_avg_sq", "step") if optimizer == "adamw" else ("momentum_buffer",)
    found = read_artefact(checkpoint, "key")
    names = set(found.arrays)
    assert found.facts == {"step": 6}
    expected = {f"network.{name}" for name in names_of(layers)}
    expected |= {f"optimizer.{kind}.{name}" for kind in averages for name in names_of(layers)}
    assert names == expected


@LAYERS
def test_checkpoint_times_change_nothing(checkpoint, train, layers):
    settings = replace(SETTINGS, train_from=layers)
    one = train(settings)
    checkpoint.unlink()
    assert same(one, train(replace(settings, checkpoint_every=100)))
    assert not checkpoint.exists()


def test_a_checkpoint_of_another_training_is_ignored(train):
    undisturbed = train()
    with pytest.raises(Killed):
        train(replace(SETTINGS, learning_rate=0.5), key="other", progress=dies_at(10))
    assert same(train(), undisturbed)


@LAYERS
@OPTIMIZERS
def test_a_checkpoint_without_momentum(train, optimizer, layers):
    settings = replace(SETTINGS, momentum=0.0, optimizer=optimizer, train_from=layers)
    undisturbed = train(replace(settings, checkpoint_every=100))
    with pytest.raises(Killed):
        train(settings, progress=dies_at(10))
    assert same(train(settings), undisturbed)


@pytest.mark.parametrize("way", WAYS)
def test_a_damaged_checkpoint_is_refused(checkpoint, train, way):
    with pytest.raises(Killed):
        train(progress=dies_at(10))
    checkpoint.write_bytes(damaged(checkpoint.read_bytes(), way))
    message = rf"{checkpoint} is damaged \(.*\); delete it and run the same command again"
    with pytest.raises(ValueError, match=message):
        train()
    checkpoint.unlink()
    train()


def test_a_training_leaves_the_global_generator_as_it_was(tmp_path, checkpoint):
    network, batches = made_network(SETTINGS), window_batches(made_records(tmp_path), SETTINGS, 0)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    finetune_head(Descent(network, SETTINGS, 0), batches, None, checkpoint, "key")
    assert torch.equal(torch.rand(3), expected)
