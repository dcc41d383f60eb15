"""Kinds of error and the gain from correcting them, against a slow twin."""

import numpy as np
import pytest
from made_detections import NO_DETECTIONS, make_detections, make_record
from slow_error_kinds import slow_gains, slow_kinds

from detection.evaluation.error_kinds import (
    ERRORS,
    Kind,
    average_precisions,
    explain,
    gains,
)
from detection.evaluation.voc_ap import ClassDetections, evaluate_voc

CLASSES = ("cat", "dog", "fox")


def names_of(explained):
    return [Kind(kind).name.lower() for kind in explained.kind]


def mean_gains(explained):
    return {name: np.nanmean(each) for name, each in gains(explained).items()}


def test_each_kind():
    objects = [
        ("cat", 0, 1, 1, 100, 100),
        ("dog", 0, 101, 101, 200, 200),
        ("cat", 1, 1, 150, 50, 199),
    ]
    record = make_record("a", objects, CLASSES)
    cats = [
        ("a", 0.9, 1, 1, 100, 100),
        ("a", 0.8, 1, 1, 100, 90),
        ("a", 0.7, 1, 1, 100, 30),
        ("a", 0.6, 101, 101, 200, 190),
        ("a", 0.5, 101, 101, 140, 140),
        ("a", 0.4, 150, 1, 200, 50),
        ("a", 0.3, 1, 150, 50, 199),
    ]
    found = dict.fromkeys(CLASSES, NO_DETECTIONS) | {"cat": make_detections(cats)}
    explained = explain(found, [record], CLASSES)
    assert names_of(explained) == [
        *("found", "duplicate", "place", "class", "both", "background", "ignored")
    ]
    assert explained.on.tolist() == [0, 0, 0, 1, 1, -1, 2]
    assert explained.missed.tolist() == [False, False, False]
    assert explained.best_on(Kind.PLACE, explained.scores.astype(np.float32)).tolist() == [
        np.float32(0.7),
        *[-np.inf] * 2,
    ]


def test_what_mending_gains():
    """A cat is found below a fox taken for a cat; a cat is badly placed; a dog is missed."""
    objects = [
        ("cat", 0, 1, 1, 50, 50),
        ("cat", 0, 101, 101, 150, 150),
        ("dog", 0, 1, 101, 50, 150),
        ("fox", 0, 101, 1, 150, 50),
    ]
    cats = [
        ("a", 0.9, 101, 1, 150, 50),
        ("a", 0.8, 1, 1, 50, 50),
        ("a", 0.7, 101, 101, 120, 150),
    ]
    record = make_record("a", objects, CLASSES)
    found = dict.fromkeys(CLASSES, NO_DETECTIONS) | {"cat": make_detections(cats)}
    explained = explain(found, [record], CLASSES)
    assert average_precisions(explained).tolist() == pytest.approx([0.5 * 6 / 11, 0, 0])
    gained = mean_gains(explained)
    # The fox is found, and no false cat is above the true one any more.
    assert gained["class"] == pytest.approx((1 + 6 / 11 - 0.5 * 6 / 11) / 3)
    assert gains(explained)["class"] == pytest.approx([0.5 * 6 / 11, 0, 1])
    assert gained["place"] == pytest.approx((6 * 2 / 3 + 5 * 2 / 3 - 6 * 0.5) / 11 / 3)
    # Without the missed dog there is no dog, so that the class keeps its AP of 0.
    assert gained["missed"] == 0
    assert gained["both"] == gained["duplicate"] == gained["background"] == 0


def made_split(rng, images=12, most=9):
    """Return records and detections: objects moved, doubled, misnamed; boxes of background."""
    records, rows = [], {name: [] for name in CLASSES}
    for number in range(images):
        boxes = [
            (x, y, x + rng.integers(20, 80), y + rng.integers(20, 80))
            for x, y in rng.integers(1, 110, (rng.integers(0, 4), 2))
        ]
        objects = [(CLASSES[rng.integers(2)], rng.random() < 0.2, *map(int, box)) for box in boxes]
        records.append(make_record(str(number), objects, CLASSES))
        for _ in range(rng.integers(most)):
            if boxes and rng.random() < 0.8:
                place = rng.integers(len(boxes))
                corners = np.array(boxes[place]) + rng.integers(-15, 16, 4)
                name = objects[place][0] if rng.random() < 0.7 else CLASSES[rng.integers(3)]
            else:
                x, y = rng.integers(1, 120, 2)
                corners, name = np.array([x, y, x + 40, y + 40]), CLASSES[rng.integers(3)]
            rows[name].append((str(number), rng.random(), *corners))
    return records, {name: make_detections(of_name) for name, of_name in rows.items()}


@pytest.mark.parametrize("seed", range(12))
def test_as_its_slow_twin(seed):
    records, found = made_split(np.random.default_rng(seed))
    explained = explain(found, records, CLASSES)
    rows = [
        (name, image_id, score, box)
        for name, each in found.items()
        for image_id, score, box in zip(each.image_ids, each.scores, each.boxes, strict=True)
    ]
    rows.sort(key=lambda row: -row[2])
    objects, told = slow_kinds(rows, records, CLASSES)
    keys = [*objects, None]
    mine = [
        (CLASSES[label], score, name, keys[on])
        for label, score, name, on in zip(
            explained.labels, explained.scores, names_of(explained), explained.on, strict=True
        )
    ]
    assert sorted(mine, key=lambda row: -row[1]) == told
    assert mean_gains(explained) == pytest.approx(slow_gains(objects, told, CLASSES), abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_kinds_sum_to_what_the_metric_counts(seed):
    records, found = made_split(np.random.default_rng(seed))
    explained, result = explain(found, records, CLASSES), evaluate_voc(found, records, CLASSES)
    for label, one in enumerate(result.per_class.values()):
        rows = explained.labels == label
        right = explained.kind[rows] == Kind.FOUND
        wrong = np.isin(explained.kind[rows], ERRORS)
        assert explained.scores[rows].tolist() == one.scores.tolist()
        assert right.cumsum().tolist() == one.tp.tolist()
        assert wrong.cumsum().tolist() == one.fp.tolist()
    averages = average_precisions(explained)
    expected = [one.ap for one in result.per_class.values()]
    np.testing.assert_array_equal(averages, np.array(expected, float))
    # When all errors are mended, nothing is wrong and nothing is missed.
    perfect = average_precisions(explained, ERRORS, without_missed=True)
    seen = set(explained.objects.labels[~explained.missed & ~explained.objects.difficult])
    assert [perfect[label] for label in seen] == pytest.approx([1.0] * len(seen))


def test_nothing_found():
    record = make_record("a", [("cat", 0, 1, 1, 50, 50)], CLASSES)
    explained = explain(dict.fromkeys(CLASSES, NO_DETECTIONS), [record], CLASSES)
    assert len(explained.kind) == 0
    assert explained.missed.tolist() == [True]
    assert set(mean_gains(explained).values()) == {0.0}


def test_images_without_objects():
    records = [make_record("a", [], CLASSES), make_record("b", [("cat", 0, 1, 1, 9, 9)], CLASSES)]
    box = np.array([[0.0, 0.0, 5.0, 5.0]])
    found = dict.fromkeys(CLASSES, NO_DETECTIONS) | {"dog": ClassDetections(["a"], np.ones(1), box)}
    assert names_of(explain(found, records, CLASSES)) == ["background"]
