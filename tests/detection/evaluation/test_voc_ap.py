"""The VOC metric against the devkit's results, and against a slow twin of the rule."""

import math
from dataclasses import replace

import numpy as np
import pytest
from golden_set import (
    GOLDEN,
    PARTS,
    answers_of_twin,
    check_answers,
    read_full,
    read_part,
    toy_cases,
    write_golden,
)
from made_detections import NO_DETECTIONS, make_detections, make_record
from slow_voc_ap import slow_averages, slow_curve

from detection.data.voc import VOC_CLASSES
from detection.evaluation.voc_ap import (
    ClassDetections,
    evaluate_voc,
    match_image,
)


def number_of(value):
    return math.nan if value == "nan" else float(value)


@pytest.mark.parametrize("case", ["basics", "recall_grid", "degenerate", "ties", "random_tied"])
def test_toy_cases_equal_the_devkit(case):
    toy = toy_cases()[case]
    classes = tuple(toy["classes"])
    records = [
        make_record(
            image_id,
            [
                (one["class"], one["difficult"], *one["bbox"])
                for one in toy["ground_truth"].get(image_id, [])
            ],
            classes,
        )
        for image_id in toy["images"]
    ]
    found = {name: make_detections(toy["detections"].get(name, [])) for name in classes}
    result = evaluate_voc(found, records, classes)
    assert result.classes == classes
    for name, expected in toy["expected"].items():
        one = result.per_class[name]
        assert (one.npos, one.ntp, one.nfp) == tuple(expected[k] for k in ("npos", "ntp", "nfp"))
        np.testing.assert_array_equal(one.tp, expected["tp_cum"], err_msg=name)
        np.testing.assert_array_equal(one.fp, expected["fp_cum"], err_msg=name)
        for ours, theirs in ((one.recall, "rec"), (one.precision, "prec")):
            values = [number_of(value) for value in expected[theirs]]
            np.testing.assert_allclose(ours, values, rtol=0, atol=1e-15, err_msg=name)
        # Our own rule: where the devkit's average is NaN, ours is 0, or None without objects.
        for ours, theirs in ((one.ap, "ap11"), (one.ap_area, "ap_area")):
            value = number_of(expected[theirs])
            if expected["npos"] == 0:
                assert ours is None
            else:
                assert ours == pytest.approx(0 if math.isnan(value) else value, abs=1e-14)
    counted = [one.ap for one in result.per_class.values() if one.npos]
    assert result.map == pytest.approx(np.mean(counted))


def test_toy_cases_are_all_tested():
    assert set(toy_cases()) == {*("basics", "recall_grid", "degenerate", "ties", "random_tied")}


@pytest.mark.parametrize("part", PARTS)
def test_real_detections_equal_the_golden_answers(part):
    records, found, answers = read_part(part)
    check_answers(evaluate_voc(found, records, PARTS[part]), answers)


def test_the_answers_of_the_images_are_the_slow_rules():
    records, found, answers = read_part("images")
    for name, one in answers_of_twin(records, found).items():
        assert one == pytest.approx(answers[name], abs=1e-9), name


@pytest.fixture(scope="module")
def full(voc07_golden):
    return read_full(voc07_golden)


@pytest.mark.data
def test_all_real_detections_equal_the_devkit(full):
    records, found, answers = full
    assert len(records) == 4952
    assert tuple(answers) == VOC_CLASSES
    check_answers(evaluate_voc(found, records, VOC_CLASSES), answers)


@pytest.mark.data
def test_the_slow_rule_equals_the_devkit(full):
    records, found, devkit = full
    for name, answers in answers_of_twin(records, found).items():
        assert answers == pytest.approx(devkit[name], abs=1e-9), name


@pytest.mark.data
def test_the_files_here_are_cut_from_the_full_set(voc07_golden, full, tmp_path):
    write_golden(voc07_golden, full, tmp_path)
    assert files_of(tmp_path) == files_of(GOLDEN)


def files_of(folder):
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != "README.md")
    return {path.relative_to(folder): path.read_bytes() for path in paths}


def random_case(rng, images=12):
    """Return detections moved off a few crowded objects; scores of one digit give many ties."""
    objects, rows = {}, []
    for index in range(images):
        image_id = f"{index:06d}"
        corner = rng.integers(1, 60, (rng.integers(0, 5), 2))
        boxes = np.hstack([corner, corner + rng.integers(5, 40, corner.shape)])
        objects[image_id] = [(int(rng.random() < 0.3), *map(int, box)) for box in boxes]
        for _ in range(rng.integers(0, 9)):
            base = boxes[rng.integers(len(boxes))] if len(boxes) else np.array([1, 1, 20, 20])
            x1, y1, x2, y2 = (int(v) for v in base + rng.integers(-4, 5, 4))
            rows.append((image_id, float(rng.integers(-5, 5)) / 10, x1, y1, x2, y2))
    order = rng.permutation(len(rows))
    return [rows[i] for i in order], objects


@pytest.mark.parametrize("seed", range(20))
def test_equals_the_slow_rule(seed):
    rng = np.random.default_rng(seed)
    rows, objects = random_case(rng)
    records = [make_record(key, [("cat", *row) for row in value]) for key, value in objects.items()]
    one = evaluate_voc({"cat": make_detections(rows)}, records, ["cat"]).per_class["cat"]
    tps, fps = slow_curve(rows, objects)
    assert one.tp.tolist() == tps
    assert one.fp.tolist() == fps
    npos = sum(not row[0] for value in objects.values() for row in value)
    assert one.npos == npos
    assert (one.ap, one.ap_area) == pytest.approx(slow_averages(tps, fps, npos), abs=1e-12)
    assert (np.diff(one.scores) <= 0).all()


def test_order_of_records_and_of_untied_detections_does_not_matter(rng):
    rows, objects = random_case(rng, images=30)
    rows = [
        (row[0], score, *row[2:]) for row, score in zip(rows, rng.random(len(rows)), strict=True)
    ]
    records = [make_record(key, [("cat", *row) for row in value]) for key, value in objects.items()]
    one = evaluate_voc({"cat": make_detections(rows)}, records, ["cat"])
    shuffled = [rows[i] for i in rng.permutation(len(rows))]
    other = evaluate_voc({"cat": make_detections(shuffled)}, records[::-1], ["cat"])
    assert (one.map, one.map_area) == (other.map, other.map_area)


def test_hand_worked_curve():
    # Two objects count. By score: hit, miss, duplicate, hit; so tp is 1 1 1 2, fp 0 1 2 2.
    # Recall is .5 .5 .5 1, precision 1 1/2 1/3 1/2.
    # 11 points: the precision is 1 at 0 to 0.5, and 1/2 at 0.6 to 1: (6 + 5/2) / 11.
    # Area: 0.5 * 1 + 0.5 * 1/2.
    record = make_record("a", [("cat", 0, 1, 1, 10, 10), ("cat", 0, 101, 1, 110, 10)])
    rows = [
        ("a", 0.6, 101, 1, 110, 10),
        ("a", 0.9, 1, 1, 10, 10),
        ("a", 0.7, 1, 1, 10, 9),
        ("a", 0.8, 50, 50, 60, 60),
    ]
    one = evaluate_voc({"cat": make_detections(rows)}, [record], ["cat"]).per_class["cat"]
    assert one.tp.tolist() == [1, 1, 1, 2]
    assert one.fp.tolist() == [0, 1, 2, 2]
    assert one.ap == pytest.approx(8.5 / 11, abs=1e-15)
    assert one.ap_area == 0.75
    assert (one.npos, one.ntp, one.nfp) == (2, 2, 2)


def test_overlap_of_exactly_a_half_is_a_match():
    objects = np.array([[0.0, 0, 10, 10]])
    boxes = np.array([[0.0, 0, 10, 5], [0, 0, 10, 4.999]])  # 50 / 100, and a little less
    hits, misses = match_image(boxes, objects, np.array([False]))
    assert hits.tolist() == [True, False]
    assert misses.tolist() == [False, True]


def test_an_image_without_detections_counts_its_objects():
    records = [make_record(name, [("cat", 0, 1, 1, 10, 10)]) for name in "ab"]
    found = make_detections([("a", 1.0, 1, 1, 10, 10)])
    one = evaluate_voc({"cat": found}, records, ["cat"]).per_class["cat"]
    assert one.npos == 2
    assert one.recall.tolist() == [0.5]


def test_nothing_found_and_nothing_there():
    full = make_record("a", [("cat", 0, 1, 1, 10, 10)], ("cat", "dog"))
    result = evaluate_voc({"cat": NO_DETECTIONS, "dog": NO_DETECTIONS}, [full], ("cat", "dog"))
    assert (result.map, result.map_area) == (0, 0)
    assert (result.per_class["cat"].npos, result.per_class["cat"].ap) == (1, 0)
    assert (result.per_class["dog"].npos, result.per_class["dog"].ap) == (0, None)


def test_a_class_without_objects_has_no_part_in_the_mean():
    objects = [("cat", 0, 1, 1, 10, 10), ("sheep", 1, 1, 1, 10, 10)]
    classes = ("cat", "dog", "sheep")
    record = make_record("a", objects, classes)
    found = make_detections([("a", 1.0, 1, 1, 10, 10)])
    result = evaluate_voc(dict.fromkeys(classes, found), [record], classes)
    assert result.per_class["cat"].ap == pytest.approx(1)
    for name in ("dog", "sheep"):  # a difficult object does not count
        assert (result.per_class[name].ap, result.per_class[name].ap_area) == (None, None)
    assert result.without_objects == ("dog", "sheep")
    assert (result.map, result.map_area) == pytest.approx((1, 1))


def test_a_class_of_which_only_ignored_ones_are_found_counts_zero():
    record = make_record("a", [("cat", 1, 1, 1, 10, 10), ("cat", 0, 101, 1, 110, 10)])
    found = make_detections([("a", 1.0, 1, 1, 10, 10)])
    result = evaluate_voc({"cat": found}, [record], ["cat"])
    assert (result.map, result.map_area, result.without_objects) == (0, 0, ())


@pytest.mark.parametrize("objects", [[], [("cat", 1, 1, 1, 10, 10)]])
def test_images_without_an_object_that_counts_are_refused(objects):
    records = [make_record("a", objects), make_record("b", [])]
    with pytest.raises(ValueError, match="none of the 2 images has an object that counts, of the"):
        evaluate_voc({"cat": NO_DETECTIONS}, records, ["cat"])


def test_the_order_of_arrays_in_memory_does_not_matter(rng):
    rows, objects = random_case(rng, images=30)
    records = [make_record(key, [("cat", *row) for row in value]) for key, value in objects.items()]
    found = make_detections(rows)
    turned = ClassDetections(
        found.image_ids, found.scores[::-1].copy()[::-1], found.boxes[:, ::-1].copy()[:, ::-1]
    )
    other = [replace(one, boxes=np.asfortranarray(one.boxes)[::-1][::-1]) for one in records]
    one, two = (
        evaluate_voc({"cat": found}, records, ["cat"]),
        evaluate_voc({"cat": turned}, other, ["cat"]),
    )
    assert (one.map, one.map_area) == (two.map, two.map_area)


def test_bad_input_is_refused():
    record = make_record("a", [("cat", 0, 1, 1, 10, 10)])
    found = make_detections([("b", 1.0, 1, 1, 10, 10)])
    with pytest.raises(ValueError, match="class cat names image 'b', which is not among the 1"):
        evaluate_voc({"cat": found}, [record], ["cat"])
    with pytest.raises(ValueError, match=r"exactly the classes \['cat'\], got those of \['dog'\]"):
        evaluate_voc({"dog": NO_DETECTIONS}, [record], ["cat"])
    with pytest.raises(ValueError, match=r"exactly the classes \[\], got those of \['cat'\]"):
        evaluate_voc({"cat": found}, [record], [])
    with pytest.raises(ValueError, match="its own image id"):
        evaluate_voc({"cat": NO_DETECTIONS}, [record, record], ["cat"])
    with pytest.raises(ValueError, match=r"boxes must be float64 of shape \(1, 4\), got float32"):
        ClassDetections(["a"], np.zeros(1), np.zeros((1, 4), np.float32))
    with pytest.raises(ValueError, match=r"scores must be float64 of shape \(1,\)"):
        ClassDetections(["a"], np.zeros(2), np.zeros((1, 4)))
