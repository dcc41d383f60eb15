from pathlib import Path

import numpy as np
import pytest

from detection.data.records import Dataset, ImageRecord
from detection.training.held_back import split_held_back


def record(number, labels, difficult=None):
    count = len(labels)
    return ImageRecord(
        f"{number:06}",
        Path(f"{number}.jpg"),
        (50, 50),
        np.tile(np.array([[0, 0, 9, 9]], np.float32), (count, 1)),
        np.array(labels, np.int64),
        np.zeros(count, bool) if difficult is None else np.array(difficult),
    )


def dataset(labels):
    return Dataset(tuple(record(number, each) for number, each in enumerate(labels)), ("a", "b"))


def ids(data):
    return [each.image_id for each in data.records]


@pytest.mark.parametrize(("count", "share", "held"), [(10, 0.1, 1), (40, 0.25, 10), (7, 0, 0)])
def test_a_share_is_held_back_and_both_parts_are_in_order(count, share, held):
    data = dataset([[0]] * count)
    train, back = split_held_back(data, share, 3, difficult=False)
    assert len(back.records) == held
    assert sorted(ids(train) + ids(back)) == ids(data)
    assert ids(train) == sorted(ids(train))
    assert ids(back) == sorted(ids(back))
    assert train.classes == back.classes == data.classes
    assert ids(split_held_back(data, share, 3, difficult=False)[1]) == ids(back)


def test_the_seed_draws_the_images():
    data = dataset([[0]] * 100)
    drawn = {tuple(ids(split_held_back(data, 0.1, seed, difficult=False)[1])) for seed in range(5)}
    assert len(drawn) == 5


@pytest.mark.parametrize("seed", range(5))
def test_a_class_of_few_objects_keeps_them(seed):
    data = dataset([[0, 0]] * 45 + [[0, 1]] * 4 + [[1]])
    train, back = split_held_back(data, 0.1, seed, difficult=False)
    assert len(back.records) == 5
    left = np.concatenate([each.labels for each in train.records])
    assert (left == 1).sum() >= 4
    assert (left == 0).sum() >= 0.8 * 94


def test_difficult_objects_count_where_they_are_trained_on():
    some = Dataset(tuple(record(number, [0], [True]) for number in range(10)), ("a",))
    assert len(split_held_back(some, 0.3, 0, difficult=False)[1].records) == 3
    assert len(split_held_back(some, 0.3, 0, difficult=True)[1].records) == 3


def test_images_without_objects_can_be_held_back():
    _, back = split_held_back(dataset([[]] * 10), 0.5, 0, difficult=False)
    assert len(back.records) == 5
