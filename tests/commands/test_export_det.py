import re

import pytest
from made_detector import CLASSES, made_detector, made_image
from PIL import Image

from commands import export_det
from detection.features.extractor import SPPExtractor
from detection.inference.detector import SPPDetector
from detection.networks.build import build_backbone


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    detector = made_detector(SPPExtractor(build_backbone("alexnet", "random"), (96,)))
    detector.save(folder / "detector.safetensors")
    return folder


@pytest.fixture
def tool(called):
    def call(*words):
        done = called(export_det.run, *words)
        return done.status, done.out, done.err

    return call


def test_a_small_file_and_what_it_costs(tool, run, tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(3):
        Image.fromarray(made_image(number)).save(tmp_path / f"images/{number}.png")
    small = tmp_path / "small.safetensors"
    status, out, err = tool(
        run, small, "--rank", "12", "--images", tmp_path / "images", "--limit", "2"
    )
    assert status == 0, err
    whole, packed = re.search(r"^file +([\d,]+) +([\d,]+)$", out, re.MULTILINE).groups()
    assert int(packed.replace(",", "")) == small.stat().st_size
    assert int(whole.replace(",", "")) == (run / "detector.safetensors").stat().st_size
    assert small.stat().st_size < 0.3 * (run / "detector.safetensors").stat().st_size
    mean, most = map(float, re.search(r"score differs by ([\d.]+) .*?, ([\d.]+) ", out).groups())
    assert "in 2 images" in out
    assert out.splitlines()[-1] == f"next: python tools/detect.py IMAGES --detector {small}"
    assert 0 < mean <= most
    assert SPPDetector.load(small).classes == CLASSES


def test_the_file_alone_in_whole_numbers_of_four_bytes(tool, run, tmp_path):
    small = tmp_path / "same.safetensors"
    status, out, err = tool(
        run / "detector.safetensors", small, "--rank", "null", "--numbers", "float32"
    )
    assert status == 0, err
    assert small.read_bytes() == (run / "detector.safetensors").read_bytes()
    assert "score differs" not in out


def test_a_detector_that_is_of_low_rank(tool, run, tmp_path):
    """The default rank leaves a detector of rank 4 as it is; a lower rank is refused."""
    near, small = tmp_path / "near.safetensors", tmp_path / "small.safetensors"
    assert tool(run, near, "--rank", "4", "--numbers", "float32")[0] == 0
    status, _, err = tool(near, small)
    assert status == 0, err
    assert SPPDetector.load(small).features.head.rank == 4
    status, _, err = tool(near, tmp_path / "smaller.safetensors", "--rank", "2")
    assert status == 1
    assert "--rank null leaves its layers as they are" in err


def test_what_cannot_be_exported_or_compared(tool, run, tmp_path):
    (tmp_path / "empty").mkdir()
    small = tmp_path / "small.safetensors"
    for rank in (0, -1):
        _, _, err = tool(run, small, "--rank", rank)
        assert f"at most, got {rank}" in err
    status, _, err = tool(run, small, "--images", tmp_path / "empty")
    assert (status, "empty has 0 images" in err) == (1, True)
    assert not small.exists()


def test_windows_of_another_method(tool, run, tmp_path):
    small = tmp_path / "small.safetensors"
    status, _, err = tool(run, small, "--rank", "null", "--windows", "edge_boxes")
    assert status == 0, err
    assert SPPDetector.load(small).proposals.method == "edge_boxes"
    assert SPPDetector.load(run / "detector.safetensors").proposals.method == "selective_search"


def test_a_detector_is_not_written_over_itself(tool, run):
    before = (run / "detector.safetensors").read_bytes()
    status, _, err = tool(run, run / "detector.safetensors", "--rank", "4")
    assert status == 1
    assert err.startswith("error: ")
    assert (run / "detector.safetensors").read_bytes() == before
