"""A small training for the tests of fine-tuning."""

import pytest
from made_batches import made_records
from made_network import made_training


@pytest.fixture
def records(tmp_path):
    return made_records(tmp_path)


@pytest.fixture
def checkpoint(tmp_path):
    return tmp_path / "stages" / "head.checkpoint"


@pytest.fixture
def train(records, checkpoint):
    return made_training(records, checkpoint)
