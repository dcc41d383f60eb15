"""tools/detect.py with a detector that calls every window a thing."""

import logging
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from detection.features.extractor import SPPExtractor
from detection.inference.detector import SPPDetector
from detection.inference.layers import LayerFeatures
from detection.learners.bbox_regression import BoxRegressor
from detection.learners.class_svms import ClassSVMs
from detection.networks.build import build_backbone
from detection.networks.head import Head

TOOL = Path(__file__).resolve().parent.parent / "tools" / "detect.py"
HEIGHT, WIDTH = 120, 160


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """A run with a detector whose SVMs give every window 1 for a thing and -2 for nothing."""
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
def pictures(tmp_path):
    """A folder with one picture of a square, as PNG, and a text file."""
    image = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    image[30:80, 50:100] = (180, 20, 20)
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(image).save(folder / "square.png")
    (folder / "notes.txt").write_text("not a picture")
    return folder


@pytest.fixture
def tool(monkeypatch, capsys, caplog):
    """Calls the tool in this process; its exit status, lines of stdout, stderr with the log."""
    monkeypatch.syspath_prepend(str(TOOL.parent))
    caplog.set_level(logging.INFO)

    def call(*words):
        monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, words)])
        caplog.clear()
        status = 0
        try:
            runpy.run_path(str(TOOL), run_name="__main__")
        except SystemExit as stopped:
            status = stopped.code
        printed = capsys.readouterr()
        return SimpleNamespace(
            status=status, lines=printed.out.splitlines(), err=printed.err + caplog.text
        )

    return call


def test_a_folder_is_searched_and_drawn(tool, detector, pictures):
    done = tool(pictures, "--run", detector.parent)
    assert done.status == 0, done.err
    assert done.lines
    for line in done.lines:
        picture, name, score, *corners = line.split("\t")
        assert (picture, name, score) == (str(pictures / "square.png"), "thing", "1.000")
        x1, y1, x2, y2 = map(float, corners)
        assert 0 <= x1 < x2 <= WIDTH
        assert 0 <= y1 < y2 <= HEIGHT
    drawing = detector.parent / "detected" / "square.png"
    assert f"{len(done.lines)} detections, drawn in {drawing}" in done.err
    with Image.open(drawing) as drawn, Image.open(pictures / "square.png") as picture:
        assert drawn.size == picture.size
        assert drawn.tobytes() != picture.tobytes()


def test_an_unreadable_picture_does_not_stop_the_others(tool, detector, pictures, tmp_path):
    broken = pictures / "broken.jpg"
    broken.write_bytes(b"no picture")
    flags = ("--detector", detector, "--out", tmp_path / "out")
    done = tool(broken, pictures / "none.jpg", pictures / "square.png", *flags)
    assert done.status == 1
    assert done.lines
    assert f"{broken} is not a readable picture" in done.err
    assert f"no picture at {pictures / 'none.jpg'}" in done.err
    assert "error: 2 of 3 pictures could not be read" in done.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["square.png"]


def test_other_windows_scales_and_precision(tool, detector, pictures, tmp_path, monkeypatch):
    used = []
    detect = SPPDetector.detect

    def note(self, *words, **options):
        used.append((self.proposals.name, self.extractor.scales, self.extractor.precision))
        return detect(self, *words, **options)

    monkeypatch.setattr(SPPDetector, "detect", note)
    flags = ("--detector", detector, "--out", tmp_path / "out")
    assert tool(pictures, *flags).lines
    quicker = ("--windows", "edge_boxes", "--scales", 1, "--precision", "bfloat16")
    assert tool(pictures, *flags, *quicker).lines
    assert used == [
        ("selective_search", (HEIGHT,), "float32"),
        ("edge_boxes_learned_regions", (688,), "bfloat16"),
    ]


def test_a_threshold_above_every_score_finds_nothing(tool, detector, pictures, tmp_path):
    out = tmp_path / "out"
    done = tool(pictures, "--detector", detector, "--out", out, "--threshold", 1)
    assert (done.status, done.lines) == (0, [])
    with Image.open(out / "square.png") as drawn, Image.open(pictures / "square.png") as picture:
        assert drawn.tobytes() == picture.tobytes()


def test_no_picture_is_replaced(tool, detector, pictures, tmp_path):
    before = (pictures / "square.png").read_bytes()
    refused = tool(pictures, "--detector", detector, "--out", pictures)
    assert refused.status == 1
    assert "would replace it" in refused.err
    assert (pictures / "square.png").read_bytes() == before

    other = tmp_path / "square.png"
    other.write_bytes(before)
    refused = tool(pictures, other, "--detector", detector, "--out", tmp_path / "out")
    assert refused.status == 1
    assert "would both be drawn in" in refused.err


def test_wrong_places_are_one_sentence(tool, detector, pictures, tmp_path):
    assert "error: no detector at" in tool(pictures, "--run", tmp_path / "none").err
    (tmp_path / "empty").mkdir()
    refused = tool(tmp_path / "empty", "--detector", detector)
    assert refused.status == 1
    assert "error: no picture (.jpg, .jpeg, .png) in folder" in refused.err
