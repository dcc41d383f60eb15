"""Caltech-101's folders and splits."""

import numpy as np
import pytest
from PIL import Image

from classification.transfer import caltech101
from classification.transfer.caltech101 import (
    Caltech101,
    CaltechData,
    accuracies,
    draw_split,
    one_vs_rest,
    read_class_folders,
)
from classification.transfer.svms import GRID


def add_class(root, name, count):
    (root / name).mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (8, 8)).save(root / name / f"{number}.png")


def test_folders_are_classes(tmp_path):
    add_class(tmp_path / "101_ObjectCategories", "dog", 2)
    add_class(tmp_path / "101_ObjectCategories", "cat", 3)
    (tmp_path / "101_ObjectCategories/tmp").write_text("a stray file")
    for root in (tmp_path, tmp_path / "101_ObjectCategories"):
        found = read_class_folders(root)
        assert found.classes == ("cat", "dog")
        assert found.labels.tolist() == [0, 0, 0, 1, 1]
        assert [path.parent.name for path in found.paths] == ["cat"] * 3 + ["dog"] * 2


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        read_class_folders(tmp_path / "nowhere")
    add_class(tmp_path, "cat", 1)
    with pytest.raises(ValueError, match="has 1 folders"):
        read_class_folders(tmp_path)
    (tmp_path / "dog").mkdir()
    with pytest.raises(ValueError, match="dog has no images"):
        read_class_folders(tmp_path)


def test_a_split():
    labels = np.repeat([0, 1, -1], [40, 9, 5])
    train, test = draw_split(labels, 8, 20, 3, ("cat", "dog"))
    assert [int((labels[train] == label).sum()) for label in (0, 1)] == [8, 8]
    assert [int((labels[test] == label).sum()) for label in (0, 1)] == [20, 1]
    assert not set(train) & set(test)
    assert (labels[train] >= 0).all()
    again, _ = draw_split(labels, 8, 20, 3, ("cat", "dog"))
    other, _ = draw_split(labels, 8, 20, 4, ("cat", "dog"))
    assert again.tolist() == train.tolist() != other.tolist()


def test_a_class_too_small_is_named():
    with pytest.raises(ValueError, match="class dog has 8 images"):
        draw_split(np.repeat([0, 1], [40, 8]), 8, 20, 0, ("cat", "dog"))


def test_accuracies():
    labels = np.array([0, 0, 0, 1])
    of_class, of_images = accuracies(np.array([0, 0, 1, 1]), labels, 2)
    assert of_class == pytest.approx([2 / 3, 1])
    assert of_images == 0.75
    assert one_vs_rest(np.array([1, 0]), 3).tolist() == [[-1, 1, -1], [1, -1, -1]]


@pytest.fixture
def task(tmp_path):
    for name in ("cat", "dog"):
        add_class(tmp_path, name, 12)
    return Caltech101(CaltechData(str(tmp_path), train_images=6, test_images=6, splits=3))


@pytest.fixture
def fitted(monkeypatch):
    """Replace the SVMs; return a list that collects the rows and C of every fit."""
    fits = []

    def scores(gram, train, test, targets, C, classes):
        fits.append((set(train), set(test), C))
        # The best C depends on the first row that is held back or tested.
        right = np.where(targets[test] > 0, 1.0, -1.0)
        return right if GRID[min(test) % len(GRID)] == C else -right

    monkeypatch.setattr(caltech101, "svm_scores", scores)
    return fits


def test_each_split_chooses_C_on_its_own_training_images(task, fitted):
    outcome = task.evaluate(np.eye(24), None)
    assert len(outcome.C) == 3
    for number, C in enumerate(outcome.C):
        own = fitted[number * 6 : number * 6 + 6]
        train, test = map(set, task._split(number))
        for learn, rest, _ in own[:5]:
            assert learn | rest <= train
            assert not (learn | rest) & test
            assert not learn & rest
        assert own[5] == (train, test, C)
        assert GRID[min(own[0][1]) % len(GRID)] == C


def test_a_given_C_is_taken(task, fitted):
    assert task.evaluate(np.eye(24), 2.0).C == (2.0, 2.0, 2.0)
    assert [C for _, _, C in fitted] == [2.0, 2.0, 2.0]


def test_views_are_chosen_on_the_first_split(task, fitted):
    assert task.choose(np.eye(24))[0] == task.evaluate(np.eye(24), None).C[0]
    train, _ = task._split(0)
    assert all(learn | rest <= set(train) for learn, rest, _ in fitted[:5])
