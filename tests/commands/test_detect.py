"""detect with a detector that calls every window a thing."""

import json
import logging
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from damage import fail_to_open
from PIL import Image

from commands import detect
from detection.features.extractor import SPPExtractor
from detection.inference import many_images
from detection.inference.detector import SPPDetector
from detection.inference.layers import LayerFeatures
from detection.inference.many_images import (
    IMAGES_A_PROCESS,
    DetectorSource,
    ImageJob,
    detect_files,
)
from detection.learners.bbox_regression import BoxRegressor
from detection.learners.class_svms import ClassSVMs
from detection.networks.build import build_backbone
from detection.networks.head import Head
from proposals.methods import Proposals

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
def square():
    image = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    image[30:80, 50:100] = (180, 20, 20)
    return Image.fromarray(image)


@pytest.fixture
def images(tmp_path, square):
    """A folder with one image of a square, as PNG, and a text file."""
    folder = tmp_path / "images"
    folder.mkdir()
    square.save(folder / "square.png")
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture
def tool(monkeypatch, capsys, caplog):
    """Calls the tool in this process; its exit status, lines of stdout, stderr with the log."""
    caplog.set_level(logging.INFO)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["detect.py", *map(str, words)])
        caplog.clear()
        status = 0
        try:
            detect.run()
        except SystemExit as stopped:
            status = stopped.code
        printed = capsys.readouterr()
        return SimpleNamespace(
            status=status, lines=printed.out.splitlines(), err=printed.err + caplog.text
        )

    return call


def searched(done):
    """The images that lines were printed of."""
    return {line.split("\t")[0] for line in done.lines}


def below(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_searched_and_drawn(tool, detector, images):
    done = tool(images, "--run", detector.parent)
    assert done.status == 0, done.err
    assert done.lines
    for line in done.lines:
        image, name, score, *corners = line.split("\t")
        assert (image, name, score) == (str(images / "square.png"), "thing", "1.000")
        x1, y1, x2, y2 = map(float, corners)
        assert 0 <= x1 < x2 <= WIDTH
        assert 0 <= y1 < y2 <= HEIGHT
    drawing = detector.parent / "detected" / "square.png"
    assert f"images drawn: 1, in {drawing.parent}" in done.err
    assert f"{images}: 1 images, 1 other files ignored" in done.err
    assert "scores are raw, not probabilities; the default threshold is -0.7" in done.err
    with Image.open(drawing) as drawn, Image.open(images / "square.png") as image:
        assert drawn.size == image.size
        assert drawn.tobytes() != image.tobytes()


def test_every_format_in_every_subfolder_is_searched(tool, detector, square, tmp_path):
    folder, out = tmp_path / "images", tmp_path / "out"
    for name in ("a.rf.1.bmp", "day/a.webp", "day/two/b.tif", "day/two/c.JPG", "d.gif"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        square.save(folder / name)
    (folder / "._a.png").write_bytes(b"what a Mac leaves")
    done = tool(folder, "--detector", detector, "--out", out, "--windows", "edge_boxes")
    assert done.status == 0, done.err
    assert len(searched(done)) == 5
    assert "5 images, 1 other files ignored" in done.err
    drawn = {"a.rf.1.bmp.jpg", "day/a.webp.jpg", "day/two/b.tif.jpg", "day/two/c.JPG", "d.gif.jpg"}
    assert below(out) == drawn


def test_an_unreadable_image_does_not_stop_the_others(tool, detector, images, tmp_path):
    broken = images / "broken.jpg"
    broken.write_bytes(b"no image")
    flags = ("--detector", detector, "--out", tmp_path / "out")
    words = (broken, images / "none.jpg", images / "square.png")
    done = tool(*words, *flags)
    assert done.status == 3
    assert searched(done) == {str(images / "square.png")}
    assert f"skipped {broken}: is not a readable image (cannot identify" in done.err
    assert f"skipped {images / 'none.jpg'}: no image at" in done.err
    assert "images skipped: 2" in done.err
    assert below(tmp_path / "out") == {"square.png"}
    strict = tool(*words, *flags, "--strict")
    assert (strict.status, strict.lines) == (1, [])
    (error,) = [line for line in strict.err.splitlines() if line.startswith("error: ")]
    assert error.startswith(f"error: {broken} is not a readable image")
    assert error.endswith("another format that Pillow opens")


def test_an_image_that_the_disk_does_not_give_does_not_stop_the_others(
    tool, detector, images, square, tmp_path, monkeypatch
):
    square.save(images / "a.png")
    fail_to_open(monkeypatch, "a.png")
    done = tool(images, "--detector", detector, "--out", tmp_path / "out")
    assert done.status == 3
    assert searched(done) == {str(images / "square.png")}
    assert f"skipped {images / 'a.png'}: could not be read (Input/output error)" in done.err
    assert "keep it, look at its disk" in done.err


def test_an_image_that_ends_early_is_searched(tool, detector, square, tmp_path):
    square.save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-2])
    done = tool(tmp_path / "a.jpg", "--detector", detector, "--out", tmp_path / "out")
    assert done.status == 0
    assert done.lines
    assert "a.jpg ends early" in done.err


def test_16_bits_are_searched_as_8(tool, detector, square, tmp_path):
    grey = np.asarray(square.convert("L"))
    Image.fromarray(grey).save(tmp_path / "8.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "16.png")
    flags = ("--detector", detector, "--out", tmp_path / "out")
    lines = [tool(tmp_path / name, *flags).lines for name in ("8.png", "16.png")]
    assert [line.split("\t")[1:] for line in lines[0]] == [
        line.split("\t")[1:] for line in lines[1]
    ]


def test_other_windows_scales_and_precision(tool, detector, images, tmp_path, monkeypatch):
    used = []
    search = SPPDetector.search

    def note(self, *words, **options):
        used.append((self.proposals.name, self.extractor.scales, self.extractor.precision))
        return search(self, *words, **options)

    monkeypatch.setattr(SPPDetector, "search", note)
    flags = ("--detector", detector, "--out", tmp_path / "out")
    assert tool(images, *flags).lines
    quicker = ("--windows", "edge_boxes", "--scales", 1, "--precision", "bfloat16")
    assert tool(images, *flags, *quicker).lines
    assert used == [
        ("selective_search", (HEIGHT,), "float32"),
        ("edge_boxes_learned_regions", (688,), "bfloat16"),
    ]


def test_a_threshold_above_every_score_finds_nothing(tool, detector, images, tmp_path):
    out = tmp_path / "out"
    done = tool(images, "--detector", detector, "--out", out, "--threshold", 1)
    assert (done.status, done.lines) == (0, [])
    assert "no detection is above the threshold; a lower --threshold shows more" in done.err
    with Image.open(out / "square.png") as drawn, Image.open(images / "square.png") as image:
        assert drawn.tobytes() == image.tobytes()


def test_no_image_is_replaced(tool, detector, images, tmp_path):
    before = (images / "square.png").read_bytes()
    (tmp_path / "link").symlink_to(images)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/square.png").symlink_to(images / "square.png")
    for given, out in (
        (images, images),
        (images, tmp_path / "link"),
        (tmp_path / "link", images),
        (tmp_path / "linked", images),
        (images / "square.png", tmp_path / "linked"),
    ):
        refused = tool(given, "--detector", detector, "--out", out)
        assert (refused.status, refused.lines) == (1, [])
        assert f"error: {out / 'square.png'} would be overwritten" in refused.err
    assert (images / "square.png").read_bytes() == before


def test_drawings_in_the_folder_are_not_searched(tool, detector, images):
    """Neither in the first call nor in the second, which draws them again."""
    for _ in range(2):
        done = tool(images, "--detector", detector, "--out", images / "drawn")
        assert done.status == 0, done.err
        assert searched(done) == {str(images / "square.png")}
    assert below(images / "drawn") == {"square.png"}
    assert "1 images, 2 other files ignored" in done.err


def test_two_images_of_one_name_are_both_drawn(tool, detector, images, square, tmp_path):
    for name in ("two/square.png", "two/SQUARE.PNG", "square.webp", "square.webp.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        square.save(tmp_path / name)
    given = (images, tmp_path / "two", tmp_path / "square.webp", tmp_path / "square.webp.jpg")
    out = tmp_path / "out"
    done = tool(*given, images, "--detector", detector, "--out", out, "--windows", "edge_boxes")
    assert done.status == 0, done.err
    assert len(searched(done)) == 5
    expected = {"square.png", "SQUARE_2.PNG", "square_3.png", "square.webp.jpg"}
    assert below(out) == expected | {"square.webp_2.jpg"}


def test_a_line_stays_a_line(tool, detector, square, tmp_path):
    square.save(tmp_path / "a\tb\nc.png")
    done = tool(tmp_path / "a\tb\nc.png", "--detector", detector, "--out", tmp_path / "out")
    assert done.lines
    assert all(line.split("\t")[0].endswith(r"a\tb\nc.png") for line in done.lines)


def test_wrong_places_are_one_sentence(tool, detector, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    none = tool(images, "--run", "none")
    assert "error: no detector at none/detector.safetensors" in none.err
    assert str(tmp_path / "none/detector.safetensors") in none.err  # relative to where, it says
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/notes.txt").touch()
    refused = tool("empty", "--detector", detector)
    assert refused.status == 1
    assert (
        f"error: no image in {tmp_path / 'empty'} or its subfolders, only 1 other files"
        in refused.err
    )


def test_all_detections_go_to_files(tool, detector, square, tmp_path):
    """COCO's JSON, a table and YOLO's text say the same, with one process and with two."""
    folder = tmp_path / "images"
    for number in range(2 * IMAGES_A_PROCESS):
        (folder / f"day{number % 2}").mkdir(parents=True, exist_ok=True)
        square.save(folder / f"day{number % 2}" / f"{number:02}.png")
    written = {}
    for workers in ("1", "2"):
        out = tmp_path / workers
        done = tool(
            *(folder, "--detector", detector, "--drawings=false", "--workers", workers),
            *("--json", out / "a.json", "--csv", out / "a.csv", "--yolo", out / "yolo"),
            *("--out", out / "drawn", "--windows", "edge_boxes", "--device", "cpu"),
        )
        assert done.status == 0, done.err
        assert not (out / "drawn").exists()
        written[workers] = {
            str(path.relative_to(out)): path.read_bytes()
            for path in out.rglob("*")
            if path.is_file()
        }
    assert written["1"] == written["2"]
    coco = json.loads(written["1"]["a.json"])
    assert len(coco["images"]) == 2 * IMAGES_A_PROCESS
    assert len(coco["annotations"]) == len(done.lines) > 0
    assert written["1"]["a.csv"].count(b"\n") == len(done.lines) + 1
    lines = [written["1"][f"yolo/day{n % 2}/{n:02}.txt"].count(b"\n") for n in range(16)]
    assert sum(lines) == len(done.lines)
    assert written["1"]["yolo/classes.txt"] == b"nothing\nthing\n"


def test_files_of_results_are_checked_before_the_search(tool, detector, images, tmp_path):
    for flag, path, message in (
        ("--csv", tmp_path / "out", "out is a folder; name a file"),
        ("--json", tmp_path / "out", "out is a folder; name a file"),
        ("--yolo", images / "notes.txt", "notes.txt is a file; name a folder for the labels"),
    ):
        (tmp_path / "out").mkdir(exist_ok=True)
        done = tool(images, "--detector", detector, "--drawings=false", flag, path)
        assert (done.status, done.lines) == (1, [])
        assert message in done.err


def test_many_images_in_python(detector, square, images):
    loaded = SPPDetector.load(detector)
    one = loaded.detect(images / "square.png")
    each = list(loaded.detect_each(iter([images / "square.png", np.asarray(square), square])))
    assert len(each) == 3
    for found in each:
        np.testing.assert_array_equal(found.boxes, one.boxes)
    with pytest.raises(TypeError, match="one at a time; got list"):
        loaded.detect([images / "square.png"])


def test_beside_a_gpu_windows_are_made_by_processes(detector, square, tmp_path, monkeypatch):
    """The network runs in this process, here on the CPU in place of the GPU."""
    square.save(tmp_path / "a.png")
    square.rotate(90).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"damaged")
    jobs = [ImageJob(tmp_path / f"{name}.png", None, -1e9) for name in "abc"]
    loaded = SPPDetector.load(detector)
    boxes = Proposals(method="edge_boxes")
    source = DetectorSource(Path(detector), "", proposals=boxes)
    alone = [*detect_files(source, jobs, 1, lambda *_: None)]
    monkeypatch.setattr(
        many_images, "detector_of_process", lambda _: replace(loaded, proposals=boxes)
    )
    both = [*detect_files(replace(source, device="cuda"), jobs, 2, lambda *_: None)]
    for one, other in zip(alone, both, strict=True):
        assert (one.image, one.size, one.unreadable) == (other.image, other.size, other.unreadable)
        np.testing.assert_array_equal(one.found.scores, other.found.scores)
        np.testing.assert_array_equal(one.found.boxes, other.found.boxes)
    assert alone[2].unreadable
