"""Reading the golden files of the VOC metric, and writing the small ones kept in tests/golden.

``python tests/helpers/golden_set.py FULL`` makes ``tests/golden`` again from the full set.
"""

import csv
import json
import shutil
import sys
import tarfile
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from made_detections import make_record
from paths import ROOT
from slow_voc_ap import slow_answers

from detection.boxes import to_voc
from detection.data.voc import VOC_CLASSES, read_voc
from detection.evaluation.comp4 import comp4_path, read_comp4

GOLDEN = ROOT / "tests/golden"
# This class keeps all its detections, so that the devkit's answers hold; its file is small.
WHOLE_CLASS = "bus"
# All classes keep their detections in one of this many images of VOC 2007 test.
EVERY = 48
PARTS = {"whole_class": (WHOLE_CLASS,), "images": VOC_CLASSES}
COLUMNS = ("image", "height", "width", "class", "difficult", "xmin", "ymin", "xmax", "ymax")


def toy_cases():
    """Return small synthetic cases by name, with the devkit's answers."""
    return json.loads((GOLDEN / "toy_cases.json").read_text())["cases"]


def read_part(part):
    """Return records, detections by class and answers by class of a part of ``tests/golden``."""
    classes = PARTS[part]
    found = read_comp4(GOLDEN / part, "test", classes)
    rows, sizes = defaultdict(list), {}
    with (GOLDEN / part / "objects.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            sizes[row["image"]] = int(row["height"]), int(row["width"])
            if row["class"]:
                corners = (int(row[name]) for name in COLUMNS[5:])
                rows[row["image"]].append((row["class"], int(row["difficult"]), *corners))
    records = [make_record(image, rows[image], classes, size) for image, size in sizes.items()]
    return records, found, json.loads((GOLDEN / "answers.json").read_text())[part]


def read_full(folder):
    """Return records, detections and answers of the full set, whose answers are the devkit's."""
    with (
        tempfile.TemporaryDirectory() as unpacked,
        tarfile.open(folder / "voc2007_test_annotations.tar.gz") as archive,
    ):
        archive.extractall(unpacked, filter="data")
        records = read_voc(Path(unpacked) / "VOCdevkit", "test", images=False).records
    found = read_comp4(folder / "detections", "test", VOC_CLASSES)
    return records, found, json.loads((folder / "golden_devkit.json").read_text())["yolo2"]


def answers_of_twin(records, found):
    """Return the slow twin's answers for each class; labels of the records index VOC_CLASSES."""
    answers = {}
    for name, detections in found.items():
        boxes = to_voc(detections.boxes).tolist()
        parts = zip(detections.image_ids, detections.scores.tolist(), boxes, strict=True)
        rows = [(image_id, score, *box) for image_id, score, box in parts]
        objects = {
            record.image_id: [
                (difficult, *box)
                for difficult, box, label in zip(
                    record.difficult.tolist(),
                    to_voc(record.boxes).tolist(),
                    record.labels,
                    strict=True,
                )
                if VOC_CLASSES[label] == name
            ]
            for record in records
        }
        answers[name] = slow_answers(rows, objects)
    return answers


def write_golden(source, full, folder):
    """Write a part of the full set into ``folder``; ``full`` is ``read_full(source)``."""
    records, found, devkit = full
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / "toy_cases.json", folder / "toy_cases.json")
    label, seen = VOC_CLASSES.index(WHOLE_CLASS), set(found[WHOLE_CLASS].image_ids)
    relevant = [one for one in records if one.image_id in seen or label in one.labels]
    _write_part(source, folder / "whole_class", (WHOLE_CLASS,), relevant)
    cut = records[::EVERY]
    _write_part(source, folder / "images", VOC_CLASSES, cut)
    kept = read_comp4(folder / "images", "test", VOC_CLASSES)
    answers = {
        "whole_class": {WHOLE_CLASS: devkit[WHOLE_CLASS]},
        "images": {
            # Ten digits, as the devkit's; the last bits of a sum depend on Python's version.
            name: {key: round(value, 10) for key, value in one.items()}
            for name, one in answers_of_twin(cut, kept).items()
        },
    }
    (folder / "answers.json").write_text(json.dumps(answers, indent=1) + "\n")


def _write_part(source, folder, classes, records):
    """Write the objects of some classes as a table, and copy the lines of detections."""
    folder.mkdir(exist_ok=True)
    with (folder / "objects.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for record in records:
            image = (record.image_id, *record.size)
            names = [VOC_CLASSES[label] for label in record.labels]
            rows = zip(names, record.difficult, to_voc(record.boxes).astype(int), strict=True)
            kept = [
                (name, int(difficult), *box) for name, difficult, box in rows if name in classes
            ]
            # An image that has only detections keeps a row without an object.
            writer.writerows((*image, *row) for row in kept or [("",) * 6])
    images = {record.image_id for record in records}
    for name in classes:
        lines = (
            comp4_path(source / "detections", "test", name).read_text().splitlines(keepends=True)
        )
        kept = [line for line in lines if line.split()[0] in images]
        comp4_path(folder, "test", name).write_text("".join(kept))


def check_answers(result, answers):
    """Check that a result of the metric has the answers, class by class and in the means."""
    assert result.classes == tuple(answers)
    for name, expected in answers.items():
        one = result.per_class[name]
        ours = {"npos": one.npos, "ntp": one.ntp, "nfp": one.nfp, "ndet": len(one.scores)}
        assert ours == {key: expected[key] for key in ours}, name
        for average, key in ((one.ap, "ap11"), (one.ap_area, "ap_area")):
            np.testing.assert_allclose(average, expected[key], rtol=0, atol=1e-9, err_msg=name)
    for mean, key in ((result.map, "ap11"), (result.map_area, "ap_area")):
        expected = np.mean([one[key] for one in answers.values()])
        np.testing.assert_allclose(mean, expected, rtol=0, atol=1e-9)


if __name__ == "__main__":
    SOURCE = Path(sys.argv[1])
    write_golden(SOURCE, read_full(SOURCE), GOLDEN)
