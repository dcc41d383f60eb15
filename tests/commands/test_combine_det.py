"""combine_det on runs made by hand."""

import json
import shutil
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from commands import combine_det
from detection.inference.postprocess import Candidates
from detection.inference.testing import candidates_file
from files.writing import save_text

XML = """<annotation><size><width>100</width><height>100</height><depth>3</depth></size>
<object><name>{}</name><difficult>0</difficult>
<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>50</xmax><ymax>50</ymax></bndbox></object></annotation>
"""

CAT, DOG = 0, 1
OBJECT = (0, 0, 50, 50)
BESIDE = (0, 0, 50, 40)  # IoU with the object is 40 * 50 / 2500 = 0.8
ELSEWHERE = (60, 60, 90, 90)


@pytest.fixture
def voc(tmp_path):
    """Write two images: 1 has a cat, 2 has a dog at the same place."""
    root = tmp_path / "VOC2007"
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    for image_id, name in (("1", "cat"), ("2", "dog")):
        (root / f"Annotations/{image_id}.xml").write_text(XML.format(name))
        Image.new("RGB", (100, 100)).save(root / f"JPEGImages/{image_id}.png")
    (root / "ImageSets/Main/mine.txt").write_text("1\n2\n")
    return tmp_path


@pytest.fixture
def tool(voc, called):
    """Call the tool on the split 'mine'."""
    return partial(called, combine_det.run, "--data.root", voc, "--data.split", "mine")


def make_run(folder, found, classes=("cat", "dog"), scales=5, layer="fc7", name="fc7+bb"):
    """Write a tested run; ``found`` has rows (label, score, box) by image."""
    test = folder / f"test_mine_{scales}scales"
    candidates_of_layer = test / f"candidates-{layer}-0123"
    images = folder.parent.parent / "VOC2007/JPEGImages"
    for image_id, rows in found.items():
        boxes = np.array([box for _, _, box in rows], np.float32).reshape(-1, 4)
        scores = np.array([score for _, score, _ in rows], np.float32)
        labels = np.array([label for label, _, _ in rows], np.int64)
        candidates = Candidates(boxes, boxes, scores, labels, len(classes))
        record = SimpleNamespace(image_id=image_id, path=images / f"{image_id}.png")
        candidates.save(*candidates_file(candidates_of_layer, record))
    facts = {"candidates": candidates_of_layer.name, "classes": list(classes), "layer": layer}
    facts |= {"trained": {"seed": 3}, "scales": scales, "test_split": "mine"}
    save_text(test / name / "results.json", json.dumps(facts))
    return folder


@pytest.fixture
def cats(voc):
    """Return a run that finds the cat, and a dog that does not exist."""
    rows = {"1": [(CAT, 0.9, OBJECT)], "2": [(DOG, -0.2, ELSEWHERE)]}
    return make_run(voc / "runs/cats", rows)


@pytest.fixture
def dogs(voc):
    """Return a run that finds the dog, and the cat with a lower score than the other run."""
    rows = {"1": [(CAT, 0.4, BESIDE)], "2": [(DOG, 0.7, OBJECT)]}
    return make_run(voc / "runs/dogs", rows)


def test_runs_find_together_what_each_finds_alone(voc, tool, cats, dogs):
    # Alone, cats has the APs 1 and 0. Together both are 1, as the false dog has a lower score.
    alone = tool(cats, "--out", voc / "alone")
    assert alone.status == 0, alone.err
    assert alone.out.splitlines()[-1] == "mAP 0.5000"

    both = tool(cats, dogs, "--out", voc / "both")
    assert both.status == 0, both.err
    assert both.out.splitlines()[-1] == "mAP 1.0000"
    assert "AP50 (pycocotools) 1.0000" in both.out
    # Of two boxes at one place, the one with the higher score stays; corners are VOC's.
    cat = (voc / "both/comp4_det_mine_cat.txt").read_text()
    assert cat.split() == ["1", "0.899999976", "1", "1", "50", "50"]
    dog = (voc / "both/comp4_det_mine_dog.txt").read_text()
    assert [line.split()[1] for line in dog.splitlines()] == ["0.699999988", "-0.200000003"]

    results = json.loads((voc / "both/results.json").read_text())
    assert results["map"] == pytest.approx(1)
    assert [run["run"] for run in results["runs"]] == [str(cats), str(dogs)]
    assert results["runs"][0]["trained"] == {"seed": 3}
    assert results["images"] == 2
    assert results["data"]["root"] == str(voc)
    assert '<th scope="row">dog</th>' in (voc / "both/report.html").read_text()


def test_a_split_that_the_runs_keep(voc, tool, cats, dogs):
    before = tool(cats, dogs, "--out", voc / "both").out
    shutil.rmtree(voc / "VOC2007/ImageSets")
    for run in (cats, dogs):
        save_text(run / "lists/mine.txt", "1\n2\n")
    after = tool(cats, dogs, "--out", voc / "both", "--data.root", voc / "VOC2007")
    assert after.out == before, after.err
    results = json.loads((voc / "both/results.json").read_text())
    assert results["data"]["lists"] == str(cats / "lists")


def test_a_row_of_a_table(voc, tool, cats, dogs):
    table = voc / "docs/combination.csv"
    for _ in range(2):
        both = tool(cats, dogs, "--out", voc / "both", "--csv", table)
        assert both.status == 0, both.err
    assert table.read_text().splitlines() == [
        "runs,test_split,map,best_single_map,cat,dog",
        "cats@5 + dogs@5,mine,1.0,1.0,1.0,1.0",
    ]
    assert f"{cats.name}@5 alone: mAP 0.5000" in both.out
    assert tool(cats, "--limit", 1, "--out", voc / "one", "--csv", table).status == 0
    # There is no dog in the first image.
    assert table.read_text().splitlines()[2] == "cats@5,mine:1,1.0,1.0,1.0,-"


def test_boxes_of_all_runs_vote_where_asked_for(voc, tool, dogs):
    rows = {"1": [(CAT, 0.9, OBJECT), (CAT, -0.6, ELSEWHERE)], "2": []}
    surer, table = make_run(voc / "runs/surer", rows), voc / "combination.csv"
    words = ("--out", voc / "both", "--csv", table, "--vote_iou", 0.5)
    both = tool(surer, dogs, *words)
    assert both.status == 0, both.err
    # A weight is the score above the lowest, -0.6: (1.5 * 50 + 1 * 40) / 2.5 = 46.
    cat = (voc / "both/comp4_det_mine_cat.txt").read_text().splitlines()
    assert [float(word) for word in cat[0].split()[2:]] == pytest.approx([1, 1, 50, 46])
    assert json.loads((voc / "both/results.json").read_text())["vote_iou"] == 0.5
    assert table.read_text().splitlines()[1].startswith('"surer@5 + dogs@5, voting at 0.5",mine,')


def test_scores_of_the_same_windows_are_averaged(voc, tool, cats):
    rows = {"1": [(CAT, 0.2, OBJECT)], "2": []}
    unsure, table = make_run(voc / "runs/unsure", rows), voc / "combination.csv"
    words = ("--out", voc / "both", "--csv", table)
    both = tool(cats, unsure, *words, "--weights", "[1,3]")
    assert both.status == 0, both.err
    cat = (voc / "both/comp4_det_mine_cat.txt").read_text().split()
    assert float(cat[1]) == pytest.approx((0.9 + 3 * 0.2) / 4)
    assert json.loads((voc / "both/results.json").read_text())["weights"] == [1, 3]
    assert table.read_text().splitlines()[1].startswith('"cats@5 + unsure@5, averaged 1:3",mine,')
    wrong = tool(cats, unsure, *words, "--weights", "[1]")
    assert wrong.status == 1
    assert "combining 2 models needs one weight above 0 for each, got [1.0]" in wrong.err


def test_runs_tested_at_other_numbers_of_scales(voc, tool, cats):
    rows = {"1": [], "2": [(DOG, 0.7, OBJECT)]}
    other = make_run(voc / "runs/one", rows, scales=1)
    for words in ((cats, f"{other}@1"), (f"{cats}@5", other, "--scales", 1)):
        done = tool(*words, "--out", voc / "out")
        assert done.status == 0, done.err
        assert done.out.splitlines()[-1] == "mAP 1.0000"
        assert "one@1 alone: mAP 0.5000" in done.out
    refused = tool(cats, other, "--out", voc / "out")
    assert refused.status == 1
    assert "--scales 5" in refused.err


def test_a_limit_leaves_later_images_out(voc, tool, cats):
    made = make_run(voc / "runs/first", {"1": [(CAT, 0.3, OBJECT)]})
    done = tool(cats, made, "--limit", 1, "--out", voc / "out")
    assert done.status == 0, done.err
    assert json.loads((voc / "out/results.json").read_text())["images"] == 1


def test_runs_of_other_classes_are_refused(voc, tool, cats):
    other = make_run(voc / "runs/other", {"1": []}, classes=("dog", "cat"))
    refused = tool(cats, other)
    assert refused.status == 1
    assert "runs of different classes cannot be combined" in refused.err
    assert refused.out == ""


def test_a_class_without_objects_has_no_part_in_the_mean(voc, tool, cats, dogs):
    done = tool(cats, dogs, "--limit", 1, "--out", voc / "out", "--weights", "[2,1]")
    assert done.status == 0, done.err
    assert "mean over 1 of 2 classes: no objects of dog" in done.out
    assert done.out.splitlines()[-1] == "mAP 1.0000"
    assert json.loads((voc / "out/results.json").read_text())["per_class"]["dog"]["ap"] is None


def test_tests_with_the_same_candidates_are_as_good_as_one(voc, tool, cats):
    before = tool(cats, "--out", voc / "out").out
    rows = {"1": [(CAT, 0.9, OBJECT)], "2": [(DOG, -0.2, ELSEWHERE)]}
    for name in ("fc7", "fc7+bb_vote0.5", "fc7+bb_limit7"):
        make_run(cats, rows, name=name)
        make_run(cats, rows, layer="softmax", name="softmax+bb")
    assert tool(cats, "--out", voc / "out").out == before


def test_of_tests_with_other_candidates_one_is_named(voc, tool, cats, dogs):
    make_run(cats, {"1": [], "2": [(DOG, 0.7, OBJECT)]}, layer="fc6", name="fc6+bb")
    tests = [cats / "test_mine_5scales" / name for name in ("fc6+bb", "fc7+bb")]
    refused = tool(cats, dogs, "--out", voc / "out")
    assert refused.status == 1
    assert refused.err.splitlines()[-1] == (
        f"error: the tests of run {cats} at 5 scales kept different candidates; name the folder of "
        f"one test instead of the run: {tests[0]}, {tests[1]}"
    )
    table = voc / "table.csv"
    both = tool(*tests, "--out", voc / "out", "--csv", table)
    assert both.status == 0, both.err
    assert both.out.splitlines()[:2] == [
        "cats@5/fc6+bb alone: mAP 0.5000",
        "cats@5/fc7+bb alone: mAP 0.5000",
    ]
    assert both.out.splitlines()[-1] == "mAP 1.0000"
    assert table.read_text().splitlines()[1].startswith("cats@5/fc6+bb + cats@5/fc7+bb,mine,1.0,")


def test_runs_of_one_name_are_distinguished(voc, tool, cats):
    rows = {"1": [], "2": [(DOG, 0.7, OBJECT)]}
    other = make_run(voc / "others/cats", rows)
    both = tool(cats, other, "--out", voc / "out", "--csv", voc / "table.csv")
    assert both.status == 0, both.err
    facts = json.loads((voc / "out/results.json").read_text())["runs"]
    assert [one["run"] for one in facts] == [str(cats), str(other)]
    assert [one["map"] for one in facts] == pytest.approx([0.5, 0.5])
    assert (voc / "table.csv").read_text().splitlines()[1].startswith("cats@5 + cats@5,mine,1.0,")


def test_softmax_and_other_splits_are_refused(voc, tool, cats):
    soft = make_run(voc / "runs/soft", {"1": []}, layer="softmax", name="softmax+bb")
    for word in (soft, soft / "test_mine_5scales/softmax+bb"):
        refused = tool(cats, word, "--out", voc / "out")
        assert refused.status == 1
        assert f"the test of run {soft} has scores of softmax" in refused.err
    results = cats / "test_mine_5scales/fc7+bb/results.json"
    results.write_text(results.read_text().replace("mine", "other"))
    refused = tool(cats, "--out", voc / "out")
    assert f"{results} is a test of the split other, not of mine" in refused.err
    assert not (voc / "out").exists()


@pytest.mark.parametrize("place", ["", "test_mine_5scales", "test_mine_5scales/fc7+bb"])
def test_nothing_is_written_into_a_run(tool, cats, place):
    before = {path: path.read_bytes() for path in cats.rglob("*") if path.is_file()}
    refused = tool(cats, "--out", cats / place)
    assert refused.status == 1
    assert f"--out {cats / place} is among the files of run {cats}" in refused.err
    assert {path: path.read_bytes() for path in cats.rglob("*") if path.is_file()} == before


def test_an_image_that_cannot_be_read_is_left_out(voc, tool, cats, dogs, caplog):
    """The image was damaged after the tests, so that it still has candidates."""
    path = voc / "VOC2007/JPEGImages/2.png"
    path.write_bytes(path.read_bytes()[:60])
    done = tool(cats, dogs, "--out", voc / "out")
    assert done.status == 0, done.err
    assert f"left out: {path} is not a readable image" in caplog.text
    assert json.loads((voc / "out/results.json").read_text())["images"] == 1


def test_damaged_candidates_are_named(voc, tool, cats):
    paths = sorted((cats / "test_mine_5scales").glob("candidates-*/*"))
    contents = [path.read_bytes() for path in paths]
    for content in (contents[0][:-9], b"", contents[1]):
        paths[0].write_bytes(content)
        refused = tool(cats, "--out", voc / "out")
        assert refused.status == 1
        assert refused.err.splitlines()[-1].startswith(f"error: {paths[0]} ")
        assert "Traceback" not in refused.err


def test_an_image_without_candidates_is_named(voc, tool, cats):
    half = make_run(voc / "runs/half", {"1": []})
    refused = tool(cats, half, "--out", voc / "out")
    assert refused.status == 1
    line = refused.err.splitlines()[-1]
    assert line.startswith(f"error: run {half} has no candidates for image 2 at ")
    assert line.endswith(
        f"python tools/test_det.py --run {half} --data.root {voc} --data.test_split mine --scales 5"
    )
    assert not (voc / "out").exists()


def test_an_image_edited_after_the_test_is_named(voc, tool, cats):
    Image.new("RGB", (100, 100), "red").save(voc / "VOC2007/JPEGImages/2.png")
    refused = tool(cats, "--out", voc / "out")
    assert refused.status == 1
    assert f"error: run {cats} has no candidates for image 2 at " in refused.err


def test_runs_that_were_not_tested_are_refused(voc, tool, cats):
    missing = tool(cats, voc / "runs/none")
    assert missing.status == 1
    assert f"error: no run at {voc / 'runs/none'}" in missing.err
    assert not (voc / "runs/none").exists()

    other_scales = tool(cats, "--scales", 1)
    assert other_scales.status == 1
    assert f"run {cats} has no test in {cats / 'test_mine_1scales'}" in other_scales.err
    assert other_scales.err.rstrip().endswith("--scales 1")

    results = cats / "test_mine_5scales/fc7+bb/results.json"
    for text in ("{}", "[]", "{"):
        results.write_text(text)
        damaged = tool(cats)
        assert damaged.status == 1
        assert f"error: {results} does not name its candidates" in damaged.err


def test_runs_must_be_named(tool):
    refused = tool()
    assert refused.status == 2
    assert "the following arguments are required: runs" in refused.err
