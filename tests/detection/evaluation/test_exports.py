import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from detection.detections import Detections
from detection.evaluation.exports import (
    label_files,
    refuse_labels,
    save_coco,
    save_csv,
    save_yolo,
)

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


def write_labels(folder, found):
    files = label_files({Path(name): Path(name) for name in found}, folder)
    refuse_labels(files.values(), folder, CLASSES)
    save_yolo(folder, {files[Path(name)]: one for name, one in found.items()}, CLASSES)


def test_yolo_text_gives_the_boxes_back(tmp_path):
    for _ in range(2):  # a second call replaces its own files
        write_labels(tmp_path, FOUND)
    label, *numbers = (tmp_path / "a.txt").read_text().splitlines()[0].split()
    x, y, w, h, score = map(float, numbers)
    assert CLASSES[int(label)] == CLASSES[1]
    corners = np.array([(x - w / 2) * 40, (y - h / 2) * 30, (x + w / 2) * 40, (y + h / 2) * 30])
    np.testing.assert_allclose(corners, [1, 2, 11, 22], atol=1e-3)
    assert score == 0.75
    assert (tmp_path / "sub, folder" / "b.txt").read_text() == ""
    assert (tmp_path / "classes.txt").read_text(encoding="utf-8") == f"cat\n{CLASSES[1]}\n"


def test_labels_have_the_names_of_their_images(tmp_path):
    names = {
        "one/my%20a.jpg": "my%20a.txt",
        "one/10:00.webp": "10:00.txt",
        "one/v1.2.tif": "v1.2.txt",
        "one/a.jpg": "a.txt",
        "one/a.png": "a.png.txt",
        "two/A.jpg": "A.jpg.txt",  # the same file as a.txt on systems that ignore case
        "three/a.jpg": "a.jpg_2.txt",
        "one/classes.jpg": "classes.jpg.txt",
    }
    files = label_files({Path(image): Path(Path(image).name) for image in names}, tmp_path)
    assert files == {Path(image): tmp_path / label for image, label in names.items()}


def test_labels_made_by_hand_are_not_replaced(tmp_path):
    by_hand = tmp_path / "a.txt"
    by_hand.write_text("0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(ValueError, match=r"a.txt holds labels without scores, so it was not"):
        write_labels(tmp_path, FOUND)
    by_hand.unlink()
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    with pytest.raises(ValueError, match=r"classes.txt has other classes than cat, "):
        write_labels(tmp_path, FOUND)
    assert [each.name for each in tmp_path.iterdir()] == ["classes.txt"]


def test_names_in_no_unicode(tmp_path):
    """A name from an archive of an old Windows keeps its bytes, escaped."""
    name = os.fsdecode(b"stra\xdfe.jpg")
    save_coco(tmp_path / "found.json", {name: FOUND["a.jpg"]}, CLASSES)
    content = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert content["images"][0]["file_name"] == name
    save_csv(tmp_path / "found.csv", {name: FOUND["a.jpg"]})
    assert r"stra\udcdfe.jpg," in (tmp_path / "found.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("save", [save_csv, lambda path, found: save_coco(path, found, CLASSES)])
def test_nothing_found(tmp_path, save):
    save(tmp_path / "file", {})
    assert (tmp_path / "file").stat().st_size
