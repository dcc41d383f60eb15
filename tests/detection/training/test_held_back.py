from pathlib import Path

import numpy as np
import pytest

from detection.data.records import Dataset, ImageRecord
from detection.training.held_back import split_held_back


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def record(number, labels, difficult=None, content=None):
    count = len(labels)
    Path(f"{number}.jpg").write_text(content or f"image {number}")
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


def drawn_without_copies(data, share, seed):
    """Return the ids that the slow twin holds back: it draws each image by itself."""
    count, held = len(data.records), set()
    objects = np.array(
        [[(each.labels == k).sum() for k in range(len(data.classes))] for each in data.records]
    )
    left = 2 * share * objects.sum(axis=0)
    for row in np.random.default_rng(seed).permutation(count).tolist():
        if len(held) >= round(count * share):
            break
        if (objects[row] <= left).all():
            left = left - objects[row]
            held.add(row)
    return [data.records[row].image_id for row in sorted(held)]


@pytest.mark.parametrize("seed", range(20))
def test_images_without_copies_are_drawn_one_by_one(seed):
    rng = np.random.default_rng(seed)
    data = dataset([rng.integers(0, 2, rng.integers(0, 4)).tolist() for _ in range(30)])
    for share in (0.05, 0.1, 0.3, 0.5):
        back = split_held_back(data, share, seed, difficult=False)[1]
        assert ids(back) == drawn_without_copies(data, share, seed)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("share", [0.1, 0.3])
def test_copies_stay_together(seed, share):
    rng = np.random.default_rng(seed)
    contents = [f"content {rng.integers(12)}" for _ in range(30)]
    records = tuple(record(number, [0], content=each) for number, each in enumerate(contents))
    train, back = split_held_back(Dataset(records, ("a",)), share, seed, difficult=False)
    of_train, of_back = ({each.path.read_text() for each in part.records} for part in (train, back))
    assert not of_train & of_back
    assert 0 < len(back.records) <= 2 * round(30 * share)


def test_an_image_of_many_copies_is_not_all_that_is_held_back():
    records = [record(number, [], content="one" if number < 15 else None) for number in range(20)]
    for seed in range(5):
        data = Dataset(tuple(records), ("a",))
        assert len(split_held_back(data, 0.1, seed, difficult=False)[1].records) == 2
