"""The detector that comes with the package, as a new user runs it."""

import sys
import tomllib
from pathlib import Path

import matplotlib as mpl
import pytest
from paths import ROOT

from commands import detect
from detection import SPPDetector
from detection.inference.detector_file import SHIPPED
from files.images import read_image

PORTRAIT = Path(mpl.get_data_path()) / "sample_data/grace_hopper.jpg"


@pytest.fixture(scope="module")
def detector():
    return SPPDetector.load("voc07")


def test_it_is_small_and_travels_with_the_package():
    assert (SHIPPED / "voc07.safetensors").stat().st_size <= 12_000_000
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "shipped/*.safetensors" in packaged["tool"]["setuptools"]["package-data"]["detection"]


def test_it_knows_vocs_classes_and_gives_probabilities(detector):
    assert len(detector.classes) == 20
    assert {"person", "dog", "tvmonitor"} <= set(detector.classes)
    assert detector.calibrated
    assert detector.display_threshold == 0.5


def test_the_command_without_flags_finds_the_person(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["detect.py", str(PORTRAIT)])
    detect.run()
    (first, *_) = capsys.readouterr().out.splitlines()
    image, name, score, *corners = first.split("\t")
    assert (image, name) == (str(PORTRAIT), "person")
    assert float(score) > 0.5
    x1, y1, x2, y2 = map(float, corners)
    height, width = read_image(PORTRAIT).shape[:2]
    assert (x2 - x1) * (y2 - y1) > 0.4 * height * width
    assert (tmp_path / "detected/grace_hopper.jpg").is_file()
