"""A detector of random weights, its file, and a split for it to score."""

from types import SimpleNamespace

import numpy as np
import pytest
from made_detector import (
    CLASSES,
    SIZE,
    made_detector,
    made_image,
    made_windows,
)
from PIL import Image

from detection.config import Config
from detection.data.records import Dataset, ImageRecord
from detection.features.extractor import SPPExtractor
from detection.networks.build import build_backbone
from detection.run import Run
from proposals.selective_search import SelectiveSearch


@pytest.fixture(scope="module")
def backbone():
    return build_backbone("alexnet", "random")


@pytest.fixture(scope="module")
def detector(backbone):
    return made_detector(SPPExtractor(backbone, (96, 128)))


@pytest.fixture(scope="module")
def headless(backbone):
    """Return a detector with SVMs on pool5 and without fc layers."""
    return made_detector(SPPExtractor(backbone, (96,)), hidden=None)


@pytest.fixture
def saved(detector, tmp_path):
    path = tmp_path / "detector.safetensors"
    detector.save(path)
    return path


@pytest.fixture
def split(detector, tmp_path):
    """Return a run with the detector, two test images, two others of their names, and windows."""
    run = Run(Config(run=str(tmp_path / "run"), device="cpu", scales=1, workers=1))
    detector.save(run.detector_path)

    def made_data(folder, seed):
        folder.mkdir()
        records = []
        for number in range(2):
            path = folder / f"{number:06}.png"
            Image.fromarray(made_image(seed + number)).save(path)
            none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool)
            records.append(ImageRecord(path.stem, path, SIZE, *none))
        return Dataset(tuple(records), CLASSES)

    store = SimpleNamespace(load=lambda path: made_windows(), method=SelectiveSearch())
    return SimpleNamespace(
        run=run,
        data=made_data(tmp_path / "images", 0),
        other_data=made_data(tmp_path / "other", 5),
        windows=store,
    )
