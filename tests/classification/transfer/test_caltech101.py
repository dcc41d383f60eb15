"""Caltech-101's folders and splits."""

import numpy as np
import pytest
from PIL import Image

from classification.transfer.caltech101 import (
    accuracies,
    draw_split,
    one_vs_rest,
    read_class_folders,
)


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
    with pytest.raises(ValueError, match="holds 1 folders"):
        read_class_folders(tmp_path)
    (tmp_path / "dog").mkdir()
    with pytest.raises(ValueError, match="dog holds no image"):
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
