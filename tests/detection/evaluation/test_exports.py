import csv
import json

import numpy as np
import pytest
from pycocotools.coco import COCO

from detection.detections import Detections
from detection.evaluation.exports import save_coco, save_csv, save_yolo

CLASSES = ("cat", "\u72d7")
FOUND = {
    "a.jpg": (
        Detections(
            np.array([[1, 2, 11, 22], [0, 0, 40, 30]], np.float32),
            np.array([0.75, 0.5], np.float32),
            np.array([1, 0]),
            CLASSES,
        ),
        (30, 40),
    ),
    "sub, folder/b.png": (Detections.empty(CLASSES), (10, 20)),
}


def test_pycocotools_reads_what_is_written(tmp_path, capsys):
    save_coco(tmp_path / "found.json", FOUND, CLASSES)
    coco = COCO(tmp_path / "found.json")
    assert [image["file_name"] for image in coco.loadImgs([1, 2])] == list(FOUND)
    assert coco.loadImgs(1)[0]["width"] == 40
    first, second = coco.loadAnns(coco.getAnnIds(imgIds=1))
    assert first["bbox"] == [1, 2, 10, 20]
    assert coco.loadCats(first["category_id"])[0]["name"] == CLASSES[1]
    assert second["score"] == 0.5
    assert not coco.getAnnIds(imgIds=2)
    results = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["annotations"]
    assert len(coco.loadRes(results).anns) == 2


def test_the_table(tmp_path):
    save_csv(tmp_path / "found.csv", FOUND)
    with (tmp_path / "found.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [CLASSES[1], CLASSES[0]]
    assert rows[0]["image"] == "a.jpg"
    assert [float(rows[0][name]) for name in ("x1", "y1", "x2", "y2")] == [1, 2, 11, 22]
    assert float(rows[0]["score"]) == 0.75


def test_yolo_text_gives_the_boxes_back(tmp_path):
    save_yolo(tmp_path, FOUND, CLASSES)
    label, *numbers = (tmp_path / "a.txt").read_text().splitlines()[0].split()
    x, y, w, h, score = map(float, numbers)
    assert CLASSES[int(label)] == CLASSES[1]
    corners = np.array([(x - w / 2) * 40, (y - h / 2) * 30, (x + w / 2) * 40, (y + h / 2) * 30])
    np.testing.assert_allclose(corners, [1, 2, 11, 22], atol=1e-3)
    assert score == 0.75
    assert (tmp_path / "sub, folder" / "b.txt").read_text() == ""
    assert (tmp_path / "classes.txt").read_text(encoding="utf-8") == f"cat\n{CLASSES[1]}\n"


def test_yolo_images_that_differ_in_their_ending(tmp_path):
    found = {"a.jpg": FOUND["a.jpg"], "a.png": FOUND["sub, folder/b.png"]}
    save_yolo(tmp_path, found, CLASSES)
    assert (tmp_path / "a.txt").read_text()
    assert (tmp_path / "a.png.txt").read_text() == ""


@pytest.mark.parametrize("save", [save_csv, lambda path, found: save_coco(path, found, CLASSES)])
def test_nothing_found(tmp_path, save):
    save(tmp_path / "file", {})
    assert (tmp_path / "file").stat().st_size
