"""A classifier loaded from its file: classes with probabilities for any kind of image."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image

from classification.classifier import Classifier
from classification.config import Training
from classification.network import build_network, save_classifier

CLASSES = ["cat", "dog", "eel"]


def write_classifier(path, levels=(1, 2)):
    network = build_network("alexnet", 3, levels=levels, hidden=8, crop=112)
    facts = {"seed": 0, "shorter_side": 128, "training": asdict(Training(crop=112, small=90))}
    save_classifier(path, network, CLASSES, facts)
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_classifier(tmp_path_factory.mktemp("run") / "classifier.safetensors")


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)


def test_classes_come_with_probabilities_best_first(path, image):
    found = Classifier.load(path).classify(image)
    names, values = zip(*found, strict=True)
    assert sorted(names) == CLASSES
    assert list(values) == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(1, abs=1e-6)


def test_arrays_files_and_pillows_images_are_alike(path, image, tmp_path):
    classifier = Classifier.load(path)
    Image.fromarray(image).save(tmp_path / "a.png")
    expected = classifier.classify(image)
    assert classifier.classify(tmp_path / "a.png") == expected
    assert classifier.classify(str(tmp_path / "a.png")) == expected
    assert classifier.classify(Image.fromarray(image)) == expected
    assert classifier.classify(Image.fromarray(image).convert("RGBA")) == expected
    lying = Image.Exif()
    lying[0x112] = 6  # a quarter turn
    turned = Image.fromarray(np.rot90(image))
    turned.save(tmp_path / "lying.png", exif=lying)
    assert classifier.classify(tmp_path / "lying.png") == expected
    with Image.open(tmp_path / "lying.png") as opened:
        assert classifier.classify(opened) == expected


def test_views_and_size_default_to_the_full_image_at_the_size_of_training(path, image, tmp_path):
    scorer = Classifier.load(path).scorer()
    assert (scorer.views, scorer.size, scorer.crop) == ("full", 128, 112)
    fixed = Classifier.load(write_classifier(tmp_path / "fixed.safetensors", levels=()))
    assert fixed.scorer().views == "centre"
    assert len(fixed.classify(image)) == 3
    assert fixed.scorer("ten", 112).size == 112


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_other_arrays_are_refused(path, wrong):
    with pytest.raises(ValueError, match="must be uint8"):
        Classifier.load(path).classify(wrong)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_named(path):
    with pytest.raises(RuntimeError, match="the device cuda cannot be used"):
        Classifier.load(path, device="cuda")


def test_a_missing_image_or_classifier_is_named(path, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.jpg"):
        Classifier.load(path).classify(tmp_path / "none.jpg")
    with pytest.raises(FileNotFoundError, match="no classifier at"):
        Classifier.load(tmp_path / "none.safetensors")
