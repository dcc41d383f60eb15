"""A small training for the tests of fine-tuning."""

import pytest
from made_batches import made_records
from made_network import made_training

from detection.training.finetuning import shuffle_buffer


@pytest.fixture(autouse=True)
def _few_steps_held(monkeypatch):
    """Hold 8 steps: computing the usual 100 would take most of the time of a short training."""
    monkeypatch.setattr(shuffle_buffer, "STEPS_HELD", 8)


@pytest.fixture
def records(tmp_path):
    return made_records(tmp_path)


@pytest.fixture
def checkpoint(tmp_path):
    return tmp_path / "stages" / "head.checkpoint"


@pytest.fixture
def train(records, checkpoint):
    return made_training(records, checkpoint)
