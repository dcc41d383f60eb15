"""Images searched by the command, in Python, and beside a GPU."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from damage import fail_to_open
from PIL import Image
from searched_images import HEIGHT, WIDTH, below, searched

from detection.inference import many_images
from detection.inference.detector import SPPDetector
from detection.inference.many_images import (
    DetectorSource,
    ImageJob,
    detect_files,
)
from proposals.methods import Proposals


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
    assert "keep it, check its disk" in done.err


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


def test_a_line_stays_a_line(tool, detector, square, tmp_path):
    square.save(tmp_path / "a\tb\nc.png")
    done = tool(tmp_path / "a\tb\nc.png", "--detector", detector, "--out", tmp_path / "out")
    assert done.lines
    assert all(line.split("\t")[0].endswith(r"a\tb\nc.png") for line in done.lines)


def test_wrong_places_are_one_sentence(tool, detector, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    none = tool(images, "--run", "none")
    assert "error: no detector at none/detector.safetensors" in none.err
    assert str(tmp_path / "none/detector.safetensors") in none.err  # it has the whole path too
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/notes.txt").touch()
    refused = tool("empty", "--detector", detector)
    assert refused.status == 1
    assert (
        f"error: no image in {tmp_path / 'empty'} or its subfolders, only 1 other files"
        in refused.err
    )


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
    """The network runs in this process; here the CPU stands in for the GPU."""
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
