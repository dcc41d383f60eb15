"""VOC 2007 classification."""

from types import SimpleNamespace

import numpy as np
import pytest

from classification.transfer.voc07 import (
    average_precision,
    bootstrap_gain,
    held_back,
    image_labels,
    mean_ap,
)
from detection.data.voc import VOC_CLASSES, read_voc
from files.text import read_lines


def record(labels, difficult):
    return SimpleNamespace(labels=np.array(labels, np.int64), difficult=np.array(difficult, bool))


def test_labels():
    records = [
        record([0, 0], [True, False]),  # one of two is difficult
        record([0, 2], [True, False]),
        record([], []),
    ]
    assert image_labels(records, 3).tolist() == [[1, -1, -1], [0, -1, 1], [-1, -1, -1]]


@pytest.mark.data
@pytest.mark.parametrize("split", ["train", "minival", "test"])
def test_labels_are_those_of_the_official_lists(voc07_root, split):
    main = voc07_root / "ImageSets/Main"
    if not (main / f"{split}.txt").is_file():
        pytest.skip(f"no list of {split}")
    data = read_voc(voc07_root, split, VOC_CLASSES)
    labels = image_labels(data.records, len(VOC_CLASSES))
    for number, name in enumerate(VOC_CLASSES):
        listed = dict(line.split() for _, line in read_lines(main / f"{name}_{split}.txt"))
        found = {
            record.image_id: label
            for record, label in zip(data.records, labels[:, number], strict=True)
        }
        assert found == {image_id: int(label) for image_id, label in listed.items()}, name


def slow_average_precision(scores, labels):
    """Return the average precision by the devkit's rule, step by step."""
    ranked = sorted(
        (n for n in range(len(scores)) if labels[n] != 0), key=lambda n: (-scores[n], n)
    )
    positives = sum(labels[n] > 0 for n in ranked)
    total = 0.0
    for step in range(11):
        best = tp = 0.0
        for place, n in enumerate(ranked, start=1):
            tp += labels[n] > 0
            if tp / positives >= step * 0.1:
                best = max(best, tp / place)
        total += best / 11
    return total


def test_average_precision_is_that_of_its_definition(rng):
    for _ in range(50):
        scores = rng.integers(0, 8, 30).astype(float)  # with ties
        labels = rng.integers(-1, 2, 30)
        labels[0] = 1
        found = average_precision(scores, labels)
        assert found == pytest.approx(slow_average_precision(scores, labels), abs=1e-12)


def test_images_that_do_not_count_change_nothing(rng):
    scores, labels = rng.normal(size=40), np.repeat([1, -1], 20)
    more = np.concatenate([labels, np.zeros(10, int)])
    with_them = average_precision(np.concatenate([scores, rng.normal(size=10)]), more)
    assert with_them == average_precision(scores, labels)


def test_a_perfect_order_has_ap_1_and_a_class_without_images_none():
    assert average_precision(np.arange(4.0), np.array([-1, -1, 1, 1])) == pytest.approx(1)
    assert np.isnan(average_precision(np.arange(4.0), np.array([-1, -1, 0, -1])))
    scores = np.stack([np.arange(4.0)] * 2, axis=1)
    assert mean_ap(scores, np.array([[-1, -1], [-1, -1], [1, 0], [1, -1]])) == pytest.approx(1)


def test_held_back_images_are_a_third():
    learn, rest = held_back(10, seed=3)
    assert len(learn) == 7
    assert sorted([*learn, *rest]) == list(range(10))
    assert held_back(10, seed=3)[1].tolist() == rest.tolist()


def test_a_gain_is_found_and_none_is_none(rng):
    labels = np.where(rng.random((200, 3)) < 0.3, 1, -1)
    noise = rng.normal(size=(200, 3))
    gain, low, high = bootstrap_gain(labels + 2 * noise, labels + noise, labels, replicates=100)
    assert 0 < low < gain < high
    assert bootstrap_gain(noise, noise, labels, replicates=10) == (0, 0, 0)
