"""Fixtures: a seed, and the real images where there are any."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from paths import ROOT


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def voc07_root() -> Path:
    for folder in (ROOT.parent / "shared/voc07/VOCdevkit/VOC2007", ROOT / "data/VOCdevkit/VOC2007"):
        if (folder / "Annotations").is_dir():
            return folder
    pytest.skip("no VOC 2007 images in ../shared/voc07 or data/VOCdevkit")


@pytest.fixture(scope="session")
def voc07_golden() -> Path:
    """The full set that tests/golden is cut from."""
    folder = ROOT.parent / "shared/voc07/golden"
    if not folder.is_dir():
        pytest.skip("no full golden set in ../shared/voc07/golden")
    return folder


@pytest.fixture(autouse=True)
def _threads_as_before():
    """A tool called in this process takes all cores, which other tests are at work on."""
    before = torch.get_num_threads()
    yield
    if torch.get_num_threads() != before:
        torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _logs_as_before():
    """A tool called in this process logs in more detail, which other tests do not look for."""
    before = logging.getLogger("detection").level
    yield
    logging.getLogger("detection").setLevel(before)
