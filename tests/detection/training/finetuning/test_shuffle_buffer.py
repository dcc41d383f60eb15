"""The buffer of pooled windows: a batch depends only on its step."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from detection.settings.training import Finetune
from detection.training.finetuning import shuffle_buffer
from detection.training.finetuning.batches import View
from detection.training.finetuning.shuffle_buffer import ShuffleBuffer

BACKGROUND = 3
SETTINGS = Finetune(batch=16, images=2, positive_share=0.25)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(shuffle_buffer, "STEPS_HELD", 5)


class Batches:
    """Each step has two views; the corners of a window are its step, view, row and label."""

    settings, seed = SETTINGS, 7

    def __init__(self, labels=(0, 2, 3, 3, 3, 3)):
        self.labels = np.array(labels, np.int64)
        self.drawn = []

    def draw(self, step):
        self.drawn.append(step)
        return [self.view(step, number) for number in range(2)]

    def view(self, step, number):
        windows = [(step, number, row, label) for row, label in enumerate(self.labels)]
        image = np.zeros((1, 1, 3), np.uint8)
        return View(image, np.array(windows, np.float32), self.labels, 0)


def made_buffer(batches=None):
    batches = batches or Batches()
    return ShuffleBuffer(
        batches, batches.draw, lambda view: torch.from_numpy(view.windows), BACKGROUND, 4
    )


def test_a_batch_mixes_the_windows_of_the_steps_ahead():
    buffer, seen = made_buffer(), set()
    for step in range(40):
        pooled, labels, places = buffer.draw(step)
        assert places.tolist() == list(range(16))
        assert pooled.shape == (16, 4)
        assert pooled.dtype == torch.float32
        assert labels.dtype == torch.int64
        assert (labels != BACKGROUND).sum() == 4
        assert torch.equal(pooled[:, 3].long(), labels)
        assert len(torch.unique(pooled, dim=0)) == 16
        assert set(pooled[:, 0].int().tolist()) <= set(range(step, step + 5))
        seen |= {tuple(row[:3]) for row in pooled.int().tolist()}
    # Windows of nearly all images are drawn: of 2 in each of the 40 steps and the 4 ahead.
    assert len({row[:2] for row in seen}) > 80


def test_every_image_is_read_once_and_forgotten():
    batches = Batches()
    buffer = made_buffer(batches)
    for step in range(10):
        buffer.draw(step)
        assert sorted(buffer._rows) == list(range(step, step + 5))
    assert batches.drawn == list(range(14))


def test_a_batch_is_a_function_of_its_step():
    going = made_buffer()
    for step in range(12):
        pooled, labels, _ = going.draw(step)
        alone = made_buffer().draw(step)
        assert torch.equal(pooled, alone[0])
        assert torch.equal(labels, alone[1])


class Parts(Batches):
    """The views of one of several processes; views of other processes have no pixels."""

    def __init__(self, rank, count):
        super().__init__()
        self.rank, self.count = rank, count

    def view(self, step, number):
        view = super().view(step, number)
        mine = (2 * step + number) % self.count == self.rank
        return view if mine else replace(view, image=np.empty((1, 1, 0), np.uint8))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_parts_of_processes_are_the_batch(count):
    whole, parts = made_buffer(), [made_buffer(Parts(rank, count)) for rank in range(count)]
    for step in range(12):
        pooled, labels, _ = whole.draw(step)
        together = torch.full_like(pooled, -1)
        for part in parts:
            own, all_labels, places = part.draw(step)
            assert torch.equal(all_labels, labels)
            assert (together[places] == -1).all()
            together[places] = own
        assert torch.equal(together, pooled)


def test_background_stands_in_for_objects_that_are_missing():
    pooled, labels, _ = made_buffer(Batches((3,) * 6)).draw(0)
    assert len(pooled) == 16
    assert (labels == BACKGROUND).all()
    _, labels, _ = made_buffer(Batches((1, 3))).draw(0)
    assert (labels == 1).sum() == 4
    assert len(labels) == 14  # all 10 of background
