"""evaluate_det as a command."""

import json
import sys

import numpy as np
import pytest
from golden_set import GOLDEN, read_part
from made_detections import make_record
from made_voc import object_xml

from commands import evaluate_det
from detection.boxes import to_voc
from detection.data.voc import VOC_CLASSES
from detection.detections import Detections
from detection.evaluation.coco_map import coco_ap50
from detection.evaluation.comp4 import from_images, write_comp4
from detection.evaluation.report import format_table
from detection.evaluation.voc_ap import evaluate_voc

XML = """<annotation><size><width>100</width><height>100</height><depth>3</depth></size>
<object><name>cat</name><difficult>0</difficult>
<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>50</xmax><ymax>50</ymax></bndbox></object>
<object><name>dog</name><difficult>0</difficult>
<bndbox><xmin>60</xmin><ymin>60</ymin><xmax>90</xmax><ymax>90</ymax></bndbox></object></annotation>
"""


@pytest.fixture
def tool(monkeypatch):
    """Call the tool inside this process, which has its imports already."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["evaluate_det.py", *map(str, arguments)])
        evaluate_det.run()

    return call


@pytest.fixture
def small(tmp_path):
    """Write annotations of a cat and a dog, no image, and result files that find the cat."""
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


def test_scores_a_folder_without_images(small, tool, capsys):
    arguments = ("--detections", small / "found", "--data.root", small, "--data.split", "mine")
    tool(*arguments, "--out", small / "out")
    # The cat is found and the dog is not.
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "AP50 (pycocotools) 0.5000",
        "mAP (area) 0.5000",
        "mAP 0.5000",
    ]
    assert json.loads((small / "out" / "results.json").read_text())["map"] == pytest.approx(0.5)
    assert (small / "out" / "precision_recall.png").is_file()
    assert "The images are not there" in (small / "out" / "report.html").read_text()


def test_the_table_is_that_of_the_test_that_left_the_files(small, tool, capsys):
    """The detector has classes that the split does not: a/b, unicorn and zebra."""
    classes = ("a/b", "cat", "dog", "unicorn", "zebra")
    box, wrong = [0, 0, 50, 50], [0, 0, 20, 20]
    found = {
        "000001": Detections(
            np.float32([box, wrong, wrong]),
            np.float32([0.5, 0.7, 0.2]),
            np.array([1, 3, 0]),
            classes,
        )
    }
    write_comp4(small / "found", "mine", found, classes)
    records = [
        make_record("000001", [("cat", 0, 1, 1, 50, 50), ("dog", 0, 60, 60, 90, 90)], classes)
    ]
    by_class = from_images(found, classes)
    table = format_table(
        evaluate_voc(by_class, records, classes), coco_ap50(by_class, records, classes)
    )
    tool("--detections", small / "found", "--data.root", small, "--data.split", "mine")
    assert capsys.readouterr().out == table + "\n"
    assert "mean over 2 of 5 classes: no objects of a/b, unicorn, zebra" in table
    assert table.splitlines()[-1] == "mAP 0.5000"


def test_the_order_of_vocs_classes_is_kept(small, tool, capsys):
    for name in ("sheep", "aeroplane", "tvmonitor"):
        (small / "found" / f"comp4_det_mine_{name}.txt").write_text("")
    tool("--detections", small / "found", "--data.root", small, "--data.split", "mine")
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:6]]
    assert rows == ["aeroplane", "cat", "dog", "sheep", "tvmonitor"]


def test_results_of_a_test_are_not_written_over(small, tool, capsys):
    (small / "found/results.json").write_text("of the test")
    words = ("--data.root", small, "--data.split", "mine", "--out", small / "out/../found")
    with pytest.raises(SystemExit):
        tool("--detections", small / "found", *words)
    assert "is the folder of --detections" in capsys.readouterr().err
    assert (small / "found/results.json").read_text() == "of the test"


def test_a_missing_file_is_one_line(small, tool, capsys):
    (small / "found" / "comp4_det_mine_dog.txt").unlink()
    with pytest.raises(SystemExit) as stopped:
        tool("--detections", small / "found", "--data.root", small, "--data.split", "mine")
    assert stopped.value.code == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("error: no detections at ")
    assert "comp4_det_mine_dog.txt" in err


def test_an_annotation_without_a_size_is_refused(small, tool, capsys):
    path = small / "VOC2007" / "Annotations" / "000001.xml"
    path.write_text(XML.replace("size>", "sighs>"))
    with pytest.raises(SystemExit):
        tool("--detections", small / "found", "--data.root", small, "--data.split", "mine")
    assert "000001.xml gives no <size>" in capsys.readouterr().err


def test_golden_detections(tool, capsys, tmp_path):
    """The table for files of real detections has the golden answers."""
    records, _, golden = read_part("images")
    write_annotations(tmp_path, records)
    tool(
        *("--detections", GOLDEN / "images"),
        *("--data.root", tmp_path),
        *("--data.split", "test"),
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"mAP {np.mean([one['ap11'] for one in golden.values()]):.4f}"
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:21]}
    for name, one in golden.items():
        counts = [str(one[key]) for key in ("npos", "ndet", "ntp", "nfp")]
        assert rows[name] == [f"{one['ap11']:.4f}", f"{one['ap_area']:.4f}", *counts]


def write_annotations(root, records):
    for record in records:
        height, width = record.size
        size = f"<size><width>{width}</width><height>{height}</height></size>"
        corners = to_voc(record.boxes).astype(int).tolist()
        objects = zip(record.labels, corners, record.difficult, strict=True)
        text = "".join(
            object_xml(VOC_CLASSES[label], box, str(int(difficult)))
            for label, box, difficult in objects
        )
        path = root / "VOC2007/Annotations" / f"{record.image_id}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"<annotation>{size}{text}</annotation>")
    listed = root / "VOC2007/ImageSets/Main/test.txt"
    listed.parent.mkdir(parents=True)
    listed.write_text("".join(f"{record.image_id}\n" for record in records))
