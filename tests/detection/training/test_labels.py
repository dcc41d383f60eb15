"""Which windows are positives and negatives: against a slow twin in exact fractions."""

from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from overlaps import overlap

from detection.data.annotations import DROPPED, SWAPPED
from detection.data.records import Dataset, ImageRecord
from detection.training.labels import FEW, check_classes, few_objects, label_windows

SIZE = (40, 40)
CLASSES = 3


def made_record(boxes, labels=None, difficult=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    labels = np.zeros(len(boxes), np.int64) if labels is None else np.array(labels, np.int64)
    difficult = np.zeros(len(boxes), bool) if difficult is None else np.array(difficult, bool)
    return ImageRecord("1", Path("1.jpg"), SIZE, boxes, labels, difficult)


def windows_of(*corners):
    return np.array(corners, np.float32).reshape(-1, 4)


def random_boxes(rng, count):
    first = rng.integers(0, 25, (count, 2))
    return np.hstack([first, first + rng.integers(1, 15, (count, 2))]).astype(np.float32)


def random_record(rng, count):
    labels = rng.integers(0, CLASSES, count)
    return made_record(random_boxes(rng, count), labels, rng.random(count) < 0.4)


def slow_labels(record, proposals, difficult):
    """Label each window as in paper 4.1: positive in [0.5, 1], background in [0.1, 0.5)."""
    objects = list(zip(record.boxes, record.labels, record.difficult, strict=True))
    trainable = [(box, label) for box, label, hard in objects if difficult or not hard]
    rows = []
    for window in [box for box, _ in trainable] + list(proposals):
        best, nearest = Fraction(0), 0
        for place, (box, _) in enumerate(trainable):
            if overlap(window, box) > best:
                best, nearest = overlap(window, box), place
        by_class = [
            max((overlap(window, box) for box, label, _ in objects if label == k), default=0)
            for k in range(CLASSES)
        ]
        positive = best >= Fraction(1, 2)
        near = Fraction(1, 10) <= best < Fraction(1, 2)
        rows.append(
            {
                "window": window.tolist(),
                "overlap": np.float32(float(best)),
                "nearest": nearest,
                "by_class": [np.float32(float(value)) for value in by_class],
                "positive": positive,
                "background": near and not max(by_class) >= Fraction(1, 2),
            }
        )
    return rows


@pytest.mark.parametrize("difficult", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_equals_the_slow_twin(seed, difficult):
    rng = np.random.default_rng(seed)
    record = random_record(rng, seed % 5)
    # Some windows are near the objects and others anywhere: every range of overlap occurs.
    proposals = random_boxes(rng, 40)
    if len(record.boxes):
        moved = record.boxes[rng.integers(len(record.boxes), size=40)]
        proposals = np.concatenate([proposals, moved + rng.integers(-2, 3, (40, 4))])
        proposals[:, 2:] = np.maximum(proposals[:, 2:], proposals[:, :2] + 1)
    proposals = proposals.astype(np.float32)
    found = label_windows(record, proposals, CLASSES, difficult=difficult)
    expected = slow_labels(record, proposals, difficult)
    for name, array in (
        ("window", found.windows),
        ("overlap", found.overlap),
        ("nearest", found.nearest),
        ("by_class", found.class_overlap),
        ("positive", found.positive),
        ("background", found.background),
    ):
        wanted = [row[name] for row in expected]
        if name in ("overlap", "by_class"):
            np.testing.assert_allclose(array, wanted, rtol=1e-6)
        else:
            np.testing.assert_array_equal(array, wanted)


def test_limits_by_hand():
    record = made_record([(0, 0, 10, 10)], [2])
    # The object has 100 pixels, so the overlap of a window inside it is its area / 100.
    proposals = windows_of(
        (0, 0, 10, 5),  # 0.50: positive
        (0, 0, 7, 7),  # 0.49: background
        (0, 0, 10, 1),  # 0.10: background
        (0, 0, 9, 1),  # 0.09: neither
        (20, 20, 30, 30),  # 0: neither
    )
    found = label_windows(record, proposals, CLASSES)
    assert found.positive.tolist() == [True, True, False, False, False, False]
    assert found.background.tolist() == [False, False, True, True, False, False]
    np.testing.assert_allclose(found.overlap, [1, 0.5, 0.49, 0.1, 0.09, 0], rtol=1e-6)
    assert not found.class_overlap[:, :2].any()
    np.testing.assert_array_equal(found.class_overlap[:, 2], found.overlap)


def test_ground_truth_comes_first():
    boxes = [(0, 0, 10, 10), (20, 20, 30, 30), (5, 5, 9, 9)]
    record = made_record(boxes, [2, 0, 1], [False, True, False])
    proposals = windows_of((1, 1, 3, 3), (0, 0, 2, 2))
    found = label_windows(record, proposals, CLASSES)
    np.testing.assert_array_equal(found.windows, [boxes[0], boxes[2], *proposals.tolist()])
    assert found.windows.dtype == found.overlap.dtype == found.class_overlap.dtype == np.float32
    np.testing.assert_array_equal(found.boxes, [boxes[0], boxes[2]])
    assert found.labels.tolist() == [2, 1]
    assert found.overlap[:2].tolist() == [1, 1]
    assert found.nearest[:2].tolist() == [0, 1]


def test_of_objects_in_one_place_each_is_its_own():
    boxes = [(0, 0, 10, 10), (0, 0, 10, 10), (0, 0, 10, 10)]
    found = label_windows(made_record(boxes, [2, 0, 1]), windows_of((0, 0, 10, 9)), CLASSES)
    # The proposal is equally near to all three, so it gets the first.
    assert found.nearest.tolist() == [0, 1, 2, 0]
    assert found.overlap[:3].tolist() == [1, 1, 1]


def test_difficult_objects():
    # An easy object, and a difficult one 8 pixels lower, have 100 pixels each.
    record = made_record([(0, 0, 10, 10), (0, 8, 10, 18)], [0, 1], [False, True])
    # Rows 7..16 share 30 of 160 pixels with the easy one (0.19), 80 of 110 with the other (0.73).
    proposals = windows_of((0, 7, 10, 16), (0, 5, 10, 15))
    kept = label_windows(record, proposals, CLASSES)
    assert kept.windows.shape == (3, 4)
    assert not kept.positive[1]
    assert not kept.background[1]
    assert kept.class_overlap[1, 1] > 0.5
    # Rows 5..15 share 50 of 150 pixels with the easy one, 70 of 130 (0.54) with the other.
    assert not kept.background[2]
    trained = label_windows(record, proposals, CLASSES, difficult=True)
    assert trained.windows.shape == (4, 4)
    assert trained.positive.all()
    assert trained.labels[trained.nearest].tolist() == [0, 1, 1, 1]


def test_only_difficult_objects():
    record = made_record([(0, 0, 10, 10)], [1], [True])
    found = label_windows(record, windows_of((0, 0, 10, 10), (0, 0, 10, 3)), CLASSES)
    assert found.windows.shape == (2, 4)
    assert not found.overlap.any()
    assert not found.positive.any()
    assert not found.background.any()
    np.testing.assert_allclose(found.class_overlap[:, 1], [1, 0.3], rtol=1e-6)


def test_the_first_of_equal_objects_is_nearest():
    record = made_record([(0, 0, 10, 10), (10, 0, 20, 10)], [0, 1])
    found = label_windows(record, windows_of((5, 0, 15, 10)), CLASSES)
    assert found.nearest.tolist() == [0, 1, 0]


@pytest.mark.parametrize(("objects", "windows"), [(0, 0), (0, 3), (2, 0)])
def test_nothing_to_label(rng, objects, windows):
    record = made_record(random_boxes(rng, objects), np.zeros(objects))
    found = label_windows(record, random_boxes(rng, windows), CLASSES)
    count = objects + windows
    assert found.windows.shape == (count, 4)
    assert found.class_overlap.shape == (count, CLASSES)
    assert found.nearest.dtype == np.int64
    assert found.positive.tolist() == [True] * objects + [False] * windows
    assert not found.background.any()


def test_order_of_proposals_is_no_matter(rng):
    record, proposals = random_record(rng, 3), random_boxes(rng, 30)
    order = rng.permutation(30)
    one = label_windows(record, proposals, CLASSES, difficult=True)
    other = label_windows(record, proposals[order], CLASSES, difficult=True)
    for name in ("windows", "overlap", "nearest", "class_overlap", "positive", "background"):
        np.testing.assert_array_equal(getattr(one, name)[3:][order], getattr(other, name)[3:])


def test_every_class_needs_an_object_to_learn_from():
    one, box = made_record([[0, 0, 9, 9]], [0]), [[0, 0, 9, 9], [5, 5, 20, 20]]
    two = made_record(box, [1, 2], [False, True])
    data = Dataset((one, two), ("cat", "dog", "cow"))
    check_classes(data, "train", difficult=True)
    with pytest.raises(ValueError, match=r"every object of class 'cow' in the 2 images of 'train'"):
        check_classes(data, "train")
    with pytest.raises(ValueError, match=r"class 'cat', 'dog', 'cow' is in the 0 images of"):
        check_classes(Dataset((), ("cat", "dog", "cow")), "train", difficult=True)


def test_the_error_explains_a_class_without_objects():
    """The message proposes difficult objects only if the class has some."""
    record = made_record([[0, 0, 9, 9], [5, 5, 20, 20]], [0, 1], [False, True])
    repairs = Counter({DROPPED: 2, SWAPPED: 1})
    data = Dataset((record,), ("cat", "dog", "cow"), repairs, {"b": "b.jpg is broken"})
    for difficult in (False, True):
        expected = r"no object of class 'cow' is in the 1 images of 'train' \("
        with pytest.raises(ValueError, match=expected) as caught:
            check_classes(data, "train", difficult=difficult)
        message = str(caught.value)
        assert f"({DROPPED}: 2; images that cannot be read: 1)" in message
        assert "difficult" not in message


def test_classes_of_few_objects(tmp_path):
    def record(number, label, hard):
        box = np.array([[0, 0, 5, 5]], np.float32)
        return ImageRecord(str(number), tmp_path, (9, 9), box, np.array([label]), np.array([hard]))

    records = [record(number, 0, number % 2 == 1) for number in range(FEW + 2)]
    data = Dataset((*records, record(99, 1, True)), ("cat", "dog"))
    assert few_objects(data) == {"cat": FEW // 2 + 1, "dog": 0}
    assert few_objects(data, difficult=True) == {"dog": 1}
