"""compare_det on tests made by hand."""

import json
from functools import partial

import numpy as np
import pytest
from PIL import Image

from commands import compare_det
from detection.detections import Detections
from detection.evaluation.comp4 import write_comp4
from files.writing import save_text

XML = """<annotation><size><width>100</width><height>100</height><depth>3</depth></size>
<object><name>{}</name><difficult>0</difficult>
<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>50</xmax><ymax>50</ymax></bndbox></object></annotation>
"""
CLASSES = ("cat", "dog")
IMAGES = 40
OBJECT, ELSEWHERE = (0, 0, 50, 50), (60, 60, 90, 90)


@pytest.fixture
def root(tmp_path):
    """Write forty images: even ones show a cat, odd ones a dog."""
    root = tmp_path / "VOC2007"
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    for number in range(IMAGES):
        (root / f"Annotations/{number:02}.xml").write_text(XML.format(CLASSES[number % 2]))
        Image.new("RGB", (100, 100)).save(root / f"JPEGImages/{number:02}.png")
    names = "".join(f"{number:02}\n" for number in range(IMAGES))
    (root / "ImageSets/Main/mine.txt").write_text(names)
    return root


def left_by(folder, root, finds, **changes):
    """Write a test's folder; ``finds`` has, by image, whether the box is on its object."""
    found = {}
    for number, right in enumerate(finds):
        box = np.array([OBJECT if right else ELSEWHERE], np.float32)
        score = np.array([0.9 - number / 100], np.float32)
        found[f"{number:02}"] = Detections(box, score, np.array([number % 2]), CLASSES)
    write_comp4(folder, "mine", found, CLASSES)
    data = {"root": str(root), "split": "mine", "format": "auto", "unlabelled": "left_out"}
    facts = {"data": data | {"lists": None}, "classes": CLASSES, "unreadable": [], "limit": None}
    facts["images"] = len(found)
    save_text(folder / "results.json", json.dumps(facts | changes))
    return folder


@pytest.fixture
def tool(called):
    return partial(called, compare_det.run)


def test_a_detector_that_finds_more(tool, tmp_path, root):
    first = left_by(tmp_path / "one/test/a", root, [n % 4 == 0 for n in range(IMAGES)])
    second = left_by(tmp_path / "two/test/b", root, [n != 6 for n in range(IMAGES)])
    done = tool(first, second)
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == f"first {first}, second {second}, 40 images"
    assert lines[1] == (
        "of 40 objects both find 10, only the first 0, only the second 29, neither 1"
    )
    assert lines[-1].split()[0] == "mAP"
    assert lines[-1].endswith("better")
    assert [line.split()[0] for line in lines[4:]] == ["cat", "dog", "mAP"]
    page = (second / "comparison.html").read_text()
    assert page.count('<th scope="row">') == 3 + 3


def test_the_same_test_twice(tool, tmp_path, root):
    one = left_by(tmp_path / "one/test/a", root, [n % 3 > 0 for n in range(IMAGES)])
    done = tool(one, one, "--out", tmp_path / "same.html")
    assert done.status == 0, done.err
    assert all(line.endswith("no difference") for line in done.out.splitlines()[4:])
    assert (tmp_path / "same.html").exists()
    assert not (one / "comparison.html").exists()


def test_an_image_that_neither_could_read(tool, tmp_path, root):
    finds, left_out = [True] * (IMAGES - 1), [f"{IMAGES - 1:02}"]
    one, other = (
        left_by(tmp_path / name / "test/a", root, finds, unreadable=left_out)
        for name in ("one", "other")
    )
    assert ", 39 images" in tool(one, other).out
    whole = left_by(tmp_path / "whole/test/a", root, [True] * IMAGES)
    assert "tests of different images: 1 are only in one of them" in tool(one, whole).err


def test_images_that_came_or_went_after_the_test(tool, tmp_path, root):
    one = left_by(tmp_path / "one/test/a", root, [True] * IMAGES)
    names = root / "ImageSets/Main/mine.txt"
    whole = names.read_text()
    names.write_text(whole.removeprefix("00\n"))
    assert "is a test of 40 images, but " in tool(one, one).err
    assert " has 39 that can be read in 'mine' now; test again" in tool(one, one).err
    for name in ("Annotations/{}.xml", "JPEGImages/{}.png"):
        (root / name.format("00")).rename(root / name.format("new"))
    names.write_text(whole.replace("00\n", "new\n"))
    done = tool(one, one)
    assert (done.status, done.out) == (1, "")
    assert "a detection of class cat names image '00', which is not among the 40" in done.err


def test_what_cannot_be_compared(tool, tmp_path, root):
    one = left_by(tmp_path / "one/test/a", root, [True] * IMAGES)
    assert "no test in" in tool(one, tmp_path / "none").err
    assert "the folders of two tests, got 1" in tool(one).err
    old = left_by(tmp_path / "old/test/a", root, [True] * IMAGES)
    for text in (json.dumps({"classes": CLASSES}), "[]", "", '{"classes": '):
        save_text(old / "results.json", text)
        assert "results.json does not name its images and classes" in tool(one, old).err
    assert "no test in /:" in tool("/", one).err
    run = left_by(tmp_path / "run/test_mine_1scales/a", root, [True] * IMAGES).parent.parent
    assert f", such as {run / 'test_mine_1scales/a'}" in tool(run, one).err
    birds = left_by(tmp_path / "birds/test/a", root, [True] * IMAGES, classes=["cat", "bird"])
    assert "are tests of different classes: cat, dog; cat, bird" in tool(one, birds).err
    assert tool(one, birds).status == 1
