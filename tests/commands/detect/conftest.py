"""A detector that calls every window a thing, images for it, and the command."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from searched_images import HEIGHT, WIDTH

from commands import detect
from detection.features.extractor import SPPExtractor
from detection.inference.detector import SPPDetector
from detection.inference.layers import LayerFeatures
from detection.learners.bbox_regression import BoxRegressor
from detection.learners.class_svms import ClassSVMs
from detection.networks.build import build_backbone
from detection.networks.head import Head


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """Write a detector whose SVMs give every window 1 for a thing and -2 for nothing."""
    backbone = build_backbone("alexnet", "random")
    head = Head(backbone.pooled_length, 2, hidden=16)
    head.initialise(torch.Generator().manual_seed(0), mean_square=1.0)
    made = SPPDetector(
        ("nothing", "thing"),
        SPPExtractor(backbone, (HEIGHT,)),
        LayerFeatures(head, {}),
        {"fc7": ClassSVMs.from_arrays(np.zeros((2, 16)), np.array([-2, 1]))},
        BoxRegressor.from_arrays(np.zeros((2, backbone.pooled_length + 1, 4))),
    )
    path = tmp_path_factory.mktemp("run") / "detector.safetensors"
    made.save(path)
    return path


@pytest.fixture
def square():
    image = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    image[30:80, 50:100] = (180, 20, 20)
    return Image.fromarray(image)


@pytest.fixture
def images(tmp_path, square):
    """Write a folder with a PNG image of a square and a text file."""
    folder = tmp_path / "images"
    folder.mkdir()
    square.save(folder / "square.png")
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture
def tool(called, caplog):
    """Call the tool; return its exit status, the lines of stdout, and stderr with the log."""
    caplog.set_level(logging.INFO)

    def call(*words):
        done = called(detect.run, *words)
        return SimpleNamespace(
            status=done.status, lines=done.out.splitlines(), err=done.err + done.log
        )

    return call
