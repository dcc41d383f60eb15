"""pycocotools as an independent check: equal if the rules agree, close otherwise."""

import numpy as np
import pytest
from made_detections import NO_DETECTIONS, make_detections, make_record

from detection.evaluation.coco_map import coco_ap50
from detection.evaluation.voc_ap import ClassDetections, evaluate_voc

OBJECT = ("cat", 0, 1, 1, 10, 10)


def test_a_perfect_detector_scores_one(capfd):
    records = [make_record(name, [OBJECT]) for name in "ab"]
    found = make_detections([(name, 1.0, 1, 1, 10, 10) for name in "ab"])
    assert coco_ap50({"cat": found}, records, ["cat"]) == pytest.approx(1)
    assert capfd.readouterr().out == ""


def test_hand_worked_average():
    # One of two objects is found. Of 101 recalls, 51 (0 to 0.50) have precision 1, the others 0.
    records = [make_record(name, [OBJECT]) for name in "ab"]
    found = make_detections([("a", 1.0, 1, 1, 10, 10)])
    assert coco_ap50({"cat": found}, records, ["cat"]) == pytest.approx(51 / 101)


def test_overlap_of_exactly_a_half_counts():
    found = make_detections([("a", 1.0, 1, 1, 10, 5)])
    assert coco_ap50({"cat": found}, [make_record("a", [OBJECT])], ["cat"]) == pytest.approx(1)


def test_difficult_objects_neither_help_nor_hurt():
    record = make_record("a", [OBJECT, ("cat", 1, 101, 101, 150, 150)])
    rows = [("a", 0.9, 101, 101, 150, 150), ("a", 0.5, 1, 1, 10, 10)]
    assert coco_ap50({"cat": make_detections(rows)}, [record], ["cat"]) == pytest.approx(1)


def test_a_small_box_inside_a_difficult_object_is_a_false_positive():
    # The overlap is 1 of the detection's area, as it counts for a crowd, but the IoU is 1/25.
    # So the first detection is wrong, and the precision is 1/2 at all 101 recalls.
    record = make_record("a", [OBJECT, ("cat", 1, 101, 101, 150, 150)])
    rows = [("a", 0.9, 101, 101, 110, 110), ("a", 0.5, 1, 1, 10, 10)]
    assert coco_ap50({"cat": make_detections(rows)}, [record], ["cat"]) == pytest.approx(0.5)


def test_no_cap_on_detections_an_image():
    misses = [("a", 1.0, 101, 101, 110, 110)] * 149
    found = make_detections([*misses, ("a", 0.5, 1, 1, 10, 10)])
    record = make_record("a", [OBJECT])
    assert coco_ap50({"cat": found}, [record], ["cat"]) == pytest.approx(1 / 150)


def test_the_mean_is_over_the_classes_of_the_voc_mean():
    classes = ("cat", "dog", "sheep", "cow")
    objects = [OBJECT, ("sheep", 1, 1, 1, 10, 10), ("cow", 0, 50, 50, 90, 90)]
    record = make_record("a", objects, classes)
    found = make_detections([("a", 1.0, 1, 1, 10, 10)])
    # The cow is not found. There is no dog, and the only sheep is difficult.
    some = {"cat": found, "dog": found, "sheep": found, "cow": NO_DETECTIONS}
    assert coco_ap50(some, [record], classes) == pytest.approx(0.5)
    assert evaluate_voc(some, [record], classes).map == pytest.approx(0.5)
    assert coco_ap50(dict.fromkeys(classes, NO_DETECTIONS), [record], classes) == 0
    with pytest.raises(ValueError, match="none of the 0 images has an object that counts"):
        coco_ap50(dict.fromkeys(classes, NO_DETECTIONS), [], classes)


def test_the_order_of_arrays_in_memory_does_not_matter():
    records = [make_record(name, [OBJECT]) for name in "ab"]
    found = make_detections([("a", 1.0, 1, 1, 10, 10), ("b", 0.5, 3, 3, 10, 10)])
    turned = ClassDetections(
        found.image_ids, found.scores[::-1].copy()[::-1], np.asfortranarray(found.boxes)
    )
    one, two = (coco_ap50({"cat": each}, records, ["cat"]) for each in (found, turned))
    assert one == two


def test_lies_near_the_area_average(rng):
    """Detections are as after suppression: objects are apart, with two detections at most."""
    classes = ("cat", "dog")
    records, rows = [], {name: [] for name in classes}
    for index in range(150):
        objects = []
        for cell in range(4):
            name, x = classes[rng.integers(2)], 50 * cell + 1
            objects.append((name, rng.random() < 0.1, x, 1, x + 30, 40))
            for _ in range(rng.integers(0, 3)):
                box = np.array([x, 1, x + 30, 40]) + rng.normal(0, 4, 4)
                rows[name].append((f"{index:03d}", rng.normal(), *box))
        records.append(make_record(f"{index:03d}", objects, classes))
    found = {name: make_detections(rows[name]) for name in classes}
    area = evaluate_voc(found, records, classes).map_area
    assert 0.3 < area < 0.9
    assert coco_ap50(found, records, classes) == pytest.approx(area, abs=0.03)
