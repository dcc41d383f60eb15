"""tools/evaluate_det.py as a command."""

import json
import runpy
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

TOOL = Path(__file__).resolve().parent.parent / "tools" / "evaluate_det.py"

XML = """<annotation><size><width>100</width><height>100</height><depth>3</depth></size>
<object><name>cat</name><difficult>0</difficult>
<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>50</xmax><ymax>50</ymax></bndbox></object>
<object><name>dog</name><difficult>0</difficult>
<bndbox><xmin>60</xmin><ymin>60</ymin><xmax>90</xmax><ymax>90</ymax></bndbox></object></annotation>
"""


@pytest.fixture
def tool(monkeypatch):
    """Calls the tool inside this process, which has its imports already."""
    monkeypatch.syspath_prepend(str(TOOL.parent))

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, arguments)])
        runpy.run_path(str(TOOL), run_name="__main__")

    return call


@pytest.fixture
def small(tmp_path):
    """A cat and a dog annotated, no picture, and result files that find the cat."""
    voc = tmp_path / "VOC2007"
    (voc / "Annotations").mkdir(parents=True)
    (voc / "ImageSets" / "Main").mkdir(parents=True)
    (voc / "Annotations" / "000001.xml").write_text(XML)
    (voc / "ImageSets" / "Main" / "mine.txt").write_text("000001\n")
    found = tmp_path / "found"
    found.mkdir()
    for name in ("cat", "dog"):
        line = "000001 0.5 1 1 50 50\n" if name == "cat" else ""
        (found / f"comp4_det_mine_{name}.txt").write_text(line)
    return tmp_path


def test_scores_a_folder_without_pictures(small, tool, capsys, caplog):
    (small / "found" / "comp4_det_mine_unicorn.txt").write_text("")
    arguments = ("--detections", small / "found", "--data.root", small, "--data.test_split", "mine")
    tool(*arguments, "--out", small / "out")
    # The cat is found and the dog is not.
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "AP50 (pycocotools) 0.5000",
        "mAP (area) 0.5000",
        "mAP 0.5000",
    ]
    assert "comp4_det_mine_unicorn.txt is not scored" in caplog.text
    assert json.loads((small / "out" / "results.json").read_text())["map"] == pytest.approx(0.5)
    assert (small / "out" / "precision_recall.png").is_file()


def test_a_missing_file_is_one_line(small, tool, capsys):
    (small / "found" / "comp4_det_mine_dog.txt").unlink()
    with pytest.raises(SystemExit) as stopped:
        tool("--detections", small / "found", "--data.root", small, "--data.test_split", "mine")
    assert stopped.value.code == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("error: no detections at ")
    assert "comp4_det_mine_dog.txt" in err


def test_an_annotation_without_a_size_is_said(small, tool, capsys):
    path = small / "VOC2007" / "Annotations" / "000001.xml"
    path.write_text(XML.replace("size>", "sighs>"))
    with pytest.raises(SystemExit):
        tool("--detections", small / "found", "--data.root", small, "--data.test_split", "mine")
    assert "000001.xml gives no <size>" in capsys.readouterr().err


@pytest.mark.data
def test_golden_detections(voc07_golden, tool, capsys, tmp_path):
    """From the archive to the last line."""
    with tarfile.open(voc07_golden / "voc2007_test_annotations.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    tool(
        *("--detections", voc07_golden / "detections"),
        *("--data.root", tmp_path / "VOCdevkit"),
        *("--data.test_split", "test"),
    )
    golden = json.loads((voc07_golden / "golden_devkit.json").read_text())["yolo2"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"mAP {np.mean([one['ap11'] for one in golden.values()]):.4f}"
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:21]}
    for name, one in golden.items():
        counts = [str(one[key]) for key in ("npos", "ndet", "ntp", "nfp")]
        assert rows[name] == [f"{one['ap11']:.4f}", f"{one['ap_area']:.4f}", *counts]
