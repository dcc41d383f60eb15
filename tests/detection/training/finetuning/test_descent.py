"""A step of gradient descent: its rate, its arithmetic, and a loss that is not finite."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_network import (
    OPTIMIZERS,
    SETTINGS,
    changed,
    made_network,
    names_of,
    window_batches,
)
from torch.nn.functional import cross_entropy

from detection.ranks import Ranks
from detection.training.finetuning.descent import Descent, finite_loss, learning_rate_at
from detection.training.finetuning.shuffle_buffer import ShuffleBuffer


def test_learning_rates():
    settings = replace(SETTINGS, steps=30, learning_rate=1.0)
    rates = [learning_rate_at(step, settings) for step in range(30)]
    # The rate falls after 2/3 and 9/10 of the 30 steps.
    assert rates == [1.0] * 20 + [0.1] * 7 + [0.01] * 3
    assert learning_rate_at(0, replace(settings, steps=1)) == 1.0


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
    batches = window_batches(records, settings)
    if layers == "fc":
        pooled, labels, _ = ShuffleBuffer(
            batches, batches.draw, start.pooled, batches.num_classes, start.extractor.length
        ).draw(0)
        logits = start.head(pooled)
    else:
        views = batches.draw(0)
        labels = torch.from_numpy(np.concatenate([view.labels for view in views]))
        logits = start(torch.cat([start.pooled(view) for view in views]))
    cross_entropy(logits, labels).backward()
    for name, value in start.named_parameters():
        if name not in names_of(layers):
            assert value.grad is None
            assert torch.equal(network.get_parameter(name), value)
            continue
        decay = 0.0 if name.endswith("bias") else 0.1
        rate = 0.05 * (0.4 if name.startswith("trunk.") else 1.0)
        # In AdamW's first step the corrected running means are the gradient and its square.
        pull = value.grad / (value.grad.abs() + 1e-8) if optimizer == "adamw" else value.grad
        expected = value - rate * (pull + decay * value)
        torch.testing.assert_close(network.get_parameter(name), expected, msg=name)
    assert network.head.input_scale == start.head.input_scale


@OPTIMIZERS
def test_convolutions_of_rate_0_stay(train, optimizer):
    settings = replace(SETTINGS, train_from="conv2", conv_rate=0.0, optimizer=optimizer)
    assert changed(train(settings), made_network(settings)) == names_of("fc")


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


def test_a_last_step_that_diverges(train, monkeypatch):
    """The weights are checked at the end, because no loss shows the effect of the last step."""

    def away(descent, step, batch):
        descent.network.head.fc7.weight.data[0, 0] = torch.nan
        return 0.1

    monkeypatch.setattr(Descent, "step", away)
    message = r"last step: head.fc7.weight is not finite; try a lower --finetune.learning_rate"
    with pytest.raises(RuntimeError, match=message):
        train(replace(SETTINGS, steps=1))


def test_parts_of_a_loss_that_is_not_finite():
    logits = torch.tensor([[0.0, 0.0], [-torch.inf, 0.0]])
    assert finite_loss(logits[:1], torch.tensor([0]), 1, 4).item() == pytest.approx(np.log(2))
    # The class of the object has probability 0; the background's loss is log 2.
    message = r"step 4: loss inf \(objects inf, background 0.693"
    with pytest.raises(RuntimeError, match=message):
        finite_loss(logits, torch.tensor([1, 0]), 1, 4)


def test_each_process_needs_an_image_to_train_convolutions():
    settings, ranks = replace(SETTINGS, train_from="conv4"), Ranks(0, 3, torch.device("cpu"))
    with pytest.raises(ValueError, match="3 processes train convolutions on 2 images a batch"):
        Descent(made_network(settings), settings, 0, ranks=ranks)
