"""Files, settings and devices that no detector can be loaded from, by or to."""

import numpy as np
import pytest
import torch
from made_detector import (
    assert_same,
    calibrated,
    made_image,
)
from safetensors.numpy import save_file

from detection.inference.compact import compact
from detection.inference.detector import SPPDetector
from detection.inference.detector_file import FORMAT
from files.artefacts import read_artefact, write_artefact


@pytest.mark.parametrize("scales", [3, 0, -1])
def test_a_number_of_scales_that_there_is_not(saved, scales):
    message = f"scales must be 1 or 5, or None for the scales of the training; got {scales}"
    with pytest.raises(ValueError, match=message):
        SPPDetector.load(saved, scales=scales)


def test_a_missing_detector(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no detector at .*; python tools/train_det.py"):
        SPPDetector.load(tmp_path / "detector.safetensors")
    with pytest.raises(FileNotFoundError, match="no detector at"):
        SPPDetector.load(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "header", "empty", "text", "zeros", "flipped"])
def test_a_damaged_detector(saved, damage):
    whole = saved.read_bytes()
    parts = {
        "cut": whole[:-1000],
        "header": whole[:100],
        "empty": b"",
        "text": b"hello\n" * 99,
        "zeros": whole[:-1000] + bytes(1000),
        "flipped": whole[:-3] + bytes([whole[-3] ^ 4]) + whole[-2:],
    }
    saved.write_bytes(parts[damage])
    with pytest.raises(ValueError, match=rf"{saved} is not a detector: it is damaged .*run's det"):
        SPPDetector.load(saved)


@pytest.mark.parametrize("lost", ["classes", "head", "proposals", "detection", "network"])
def test_a_detector_without_one_of_its_settings(saved, lost):
    found = read_artefact(saved, FORMAT)
    facts = {name: value for name, value in found.facts.items() if name != lost}
    write_artefact(saved, FORMAT, found.arrays, facts)
    with pytest.raises(ValueError, match=rf"{saved} is not a detector of this version .*{lost}"):
        SPPDetector.load(saved)


@pytest.mark.parametrize("layer", ["pool5", None])
def test_a_detector_of_before_the_box_layer_was_removed(detector, saved, layer):
    found = read_artefact(saved, FORMAT)
    write_artefact(saved, FORMAT, found.arrays, found.facts | {"box_layer": layer})
    assert_same(SPPDetector.load(saved).detect(made_image()), detector.detect(made_image()))


def test_a_detector_with_a_box_layer(saved):
    found = read_artefact(saved, FORMAT)
    write_artefact(saved, FORMAT, found.arrays, found.facts | {"box_layer": "fc7"})
    message = rf"{saved} cannot be used: it has a box layer of an older version, .*; train it again"
    with pytest.raises(ValueError, match=message):
        SPPDetector.load(saved)


@pytest.mark.parametrize("form", ["whole", "small"])
def test_a_detector_without_one_of_its_arrays(detector, saved, form):
    if form == "small":
        calibrated(compact(detector, 4)).save(saved, "int8")
    found = read_artefact(saved, FORMAT)
    for lost in found.arrays:
        rest = {name: array for name, array in found.arrays.items() if name != lost}
        write_artefact(saved, FORMAT, rest, found.facts)
        with pytest.raises(ValueError, match=rf"{saved} is not a detector of this version"):
            SPPDetector.load(saved)


@pytest.mark.parametrize("metadata", [None, {"settings": '{"format": "sppnet-detection 4"}'}])
def test_another_safetensors_file(tmp_path, metadata):
    path = tmp_path / "other.safetensors"
    save_file({"weights": np.zeros(3, np.float32)}, path, metadata)
    with pytest.raises(ValueError, match=rf"{path} is not a detector: it is from another version"):
        SPPDetector.load(path)


def test_another_artefact(tmp_path):
    path = tmp_path / "svms.safetensors"
    write_artefact(path, "0123", {"weights": np.zeros(3, np.float32)})
    message = rf"{path} is not a detector: it has another key \(0123, expected sppnet-det"
    with pytest.raises(ValueError, match=message):
        SPPDetector.load(path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
@pytest.mark.parametrize("name", ["own", "voc07"])
def test_a_device_that_is_not_there(saved, name):
    """The error blames the device, and does not advise training again."""
    with pytest.raises(RuntimeError, match=r"the device cuda cannot be used \(.*; use another"):
        SPPDetector.load(saved if name == "own" else name, device="cuda")


def test_a_device_without_room(saved, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 MiB. GPU 0 has ...")

    monkeypatch.setattr("detection.inference.detector_parts.layers_of", full)
    said = rf"cpu has too little memory for the detector {saved} \(CUDA out of memory\); end other"
    with pytest.raises(RuntimeError, match=said):
        SPPDetector.load(saved)
