"""tools/combine_det.py on runs made by hand."""

import json
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from detection.inference.postprocess import Candidates
from proposals.disk import file_digest

TOOL = Path(__file__).resolve().parent.parent / "tools" / "combine_det.py"

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
    """Two pictures: a cat in 1, a dog in 2, each at the same place."""
    root = tmp_path / "VOC2007"
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    for image_id, name in (("1", "cat"), ("2", "dog")):
        (root / f"Annotations/{image_id}.xml").write_text(XML.format(name))
        Image.new("RGB", (100, 100)).save(root / f"JPEGImages/{image_id}.png")
    (root / "ImageSets/Main/mine.txt").write_text("1\n2\n")
    return tmp_path


@pytest.fixture
def tool(voc, monkeypatch, capsys):
    """Calls the tool in this process, on the split 'mine'; its exit status, stdout and stderr."""
    monkeypatch.syspath_prepend(str(TOOL.parent))

    def call(*words):
        words = [*words, "--data.root", voc, "--data.test_split", "mine"]
        monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, words)])
        status = 0
        try:
            runpy.run_path(str(TOOL), run_name="__main__")
        except SystemExit as stopped:
            status = stopped.code
        printed = capsys.readouterr()
        return SimpleNamespace(status=status, out=printed.out, err=printed.err)

    return call


def make_run(folder, found, classes=("cat", "dog"), scales=5):
    """A tested run beside the pictures; ``found`` has (label, score, box) by picture."""
    test = folder / f"test_mine_{scales}scales"
    pictures = folder.parent.parent / "VOC2007/JPEGImages"
    for image_id, rows in found.items():
        boxes = np.array([box for _, _, box in rows], np.float32).reshape(-1, 4)
        scores = np.array([score for _, score, _ in rows], np.float32)
        labels = np.array([label for label, _, _ in rows], np.int64)
        candidates = Candidates(boxes, boxes, scores, labels, len(classes))
        digest = file_digest(pictures / f"{image_id}.png")[:16]
        candidates.save(test / "candidates-fc7-0123" / f"{image_id}_{digest}.npz")
    facts = {"candidates": "candidates-fc7-0123", "classes": list(classes), "trained": {"seed": 3}}
    (test / "results.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture
def cats(voc):
    """Finds the cat, and a dog where there is none."""
    rows = {"1": [(CAT, 0.9, OBJECT)], "2": [(DOG, -0.2, ELSEWHERE)]}
    return make_run(voc / "runs/cats", rows)


@pytest.fixture
def dogs(voc):
    """Finds the dog, and the cat less surely than the other run."""
    rows = {"1": [(CAT, 0.4, BESIDE)], "2": [(DOG, 0.7, OBJECT)]}
    return make_run(voc / "runs/dogs", rows)


def test_runs_find_together_what_each_finds_alone(voc, tool, cats, dogs):
    # Cats alone has cat 1 and dog 0; together cat 1, dog 1 as the false dog scores less than it.
    alone = tool(cats, "--out", voc / "alone")
    assert alone.status == 0, alone.err
    assert alone.out.splitlines()[-1] == "mAP 0.5000"

    both = tool(cats, dogs, "--out", voc / "both")
    assert both.status == 0, both.err
    assert both.out.splitlines()[-1] == "mAP 1.0000"
    assert "AP50 (pycocotools) 1.0000" in both.out
    # The surer of two boxes at one place stays; corners are VOC's.
    cat = (voc / "both/comp4_det_mine_cat.txt").read_text()
    assert cat.split() == ["1", "0.899999976", "1", "1", "50", "50"]
    dog = (voc / "both/comp4_det_mine_dog.txt").read_text()
    assert [line.split()[1] for line in dog.splitlines()] == ["0.699999988", "-0.200000003"]

    results = json.loads((voc / "both/results.json").read_text())
    assert results["map"] == pytest.approx(1)
    assert [run["run"] for run in results["runs"]] == [str(cats), str(dogs)]
    assert results["runs"][0]["trained"] == {"seed": 3}
    assert results["pictures"] == 2


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
    assert table.read_text().splitlines()[2] == "cats@5,mine:1,0.5,0.5,1.0,0.0"


def test_boxes_of_all_runs_vote_where_asked_for(voc, tool, dogs):
    rows = {"1": [(CAT, 0.9, OBJECT), (CAT, -0.6, ELSEWHERE)], "2": []}
    surer, table = make_run(voc / "runs/surer", rows), voc / "combination.csv"
    words = ("--out", voc / "both", "--csv", table, "--vote_iou", 0.5)
    both = tool(surer, dogs, *words)
    assert both.status == 0, both.err
    # Above the lowest score, -0.6, one has 1.5 and the other 1: (1.5 * 50 + 1 * 40) / 2.5 = 46.
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
    assert "combining 2 models takes as many weights above 0, got [1.0]" in wrong.err


def test_weights_are_chosen_by_map(voc, tool):
    right = {"1": [(CAT, 0.9, OBJECT), (CAT, 0.5, ELSEWHERE)], "2": [(DOG, 0.7, OBJECT)]}
    wrong = {"1": [(CAT, 1.2, ELSEWHERE), (CAT, 0.2, OBJECT)], "2": [(DOG, 0.7, OBJECT)]}
    runs = [make_run(voc / f"runs/{name}", rows) for name, rows in (("a", right), ("b", wrong))]
    words = ("--out", voc / "both", "--csv", voc / "table.csv", "--choose_weights", "true")
    both = tool(*runs, *words)
    assert both.status == 0, both.err
    # Only where the right one counts for three times as much is its place before the other.
    choices = [line for line in both.out.splitlines() if line.startswith("weights ")]
    assert choices[0] == "weights 3,1: mAP 1.0000"
    assert sorted(choices[1:]) == [
        f"weights {each}: mAP 0.7500" for each in ("1,1", "1,2", "1,3", "2,1", "2,3", "3,2")
    ]
    assert json.loads((voc / "both/results.json").read_text())["weights"] == [3, 1]
    assert both.out.splitlines()[-1] == "mAP 1.0000"


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


def test_a_limit_leaves_later_pictures_out(voc, tool, cats):
    made = make_run(voc / "runs/first", {"1": [(CAT, 0.3, OBJECT)]})
    done = tool(cats, made, "--limit", 1, "--out", voc / "out")
    assert done.status == 0, done.err
    assert json.loads((voc / "out/results.json").read_text())["pictures"] == 1


def test_runs_of_other_classes_are_refused(voc, tool, cats):
    other = make_run(voc / "runs/other", {"1": []}, classes=("dog", "cat"))
    refused = tool(cats, other)
    assert refused.status == 1
    assert "runs of different classes cannot be combined" in refused.err
    assert refused.out == ""


def test_a_picture_without_candidates_is_named(voc, tool, cats):
    half = make_run(voc / "runs/half", {"1": []})
    refused = tool(cats, half, "--out", voc / "out")
    assert refused.status == 1
    line = refused.err.splitlines()[-1]
    assert line.startswith(f"error: run {half} has no candidates of picture 2 at ")
    assert line.endswith(
        f"python tools/test_det.py --run {half} --data.root {voc} --data.test_split mine --scales 5"
    )
    assert not (voc / "out").exists()


def test_a_picture_edited_after_the_test_is_named(voc, tool, cats):
    Image.new("RGB", (100, 100), "red").save(voc / "VOC2007/JPEGImages/2.png")
    refused = tool(cats, "--out", voc / "out")
    assert refused.status == 1
    assert f"error: run {cats} has no candidates of picture 2 at " in refused.err


def test_runs_that_were_not_tested_are_refused(voc, tool, cats):
    missing = tool(cats, voc / "runs/none")
    assert missing.status == 1
    assert f"error: no run at {voc / 'runs/none'}" in missing.err
    assert not (voc / "runs/none").exists()

    other_scales = tool(cats, "--scales", 1)
    assert other_scales.status == 1
    assert "has no test at" in other_scales.err
    assert other_scales.err.rstrip().endswith("--scales 1")

    results = cats / "test_mine_5scales/results.json"
    for text in ("{}", "[]", "{"):
        results.write_text(text)
        damaged = tool(cats)
        assert damaged.status == 1
        assert f"error: {results} does not name its candidates" in damaged.err


def test_runs_must_be_named(tool):
    refused = tool()
    assert refused.status == 2
    assert "the following arguments are required: runs" in refused.err
