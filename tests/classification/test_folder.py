import os

import numpy as np
import pytest
from made_classes import write_classes

from classification.folder import read_folder
from classification.transfer.caltech101 import read_class_folders


@pytest.fixture
def root(tmp_path):
    return write_classes(tmp_path / "data", train=2, val=1)


def test_reads_what_torchvision_reads(root):
    from torchvision.datasets import ImageFolder

    for split in ("train", "val"):
        found, expected = read_folder(root, split), ImageFolder(str(root / split))
        assert list(found.classes) == expected.classes
        paths = [str(found.path(row)) for row in range(len(found.names))]
        assert list(zip(paths, found.labels, strict=True)) == expected.samples


def test_val_has_the_labels_of_training(root):
    for path in (root / "val" / "blue").iterdir():
        path.unlink()
    (root / "val" / "blue").rmdir()
    found = read_folder(root, "val", ("blue", "green", "red"))
    assert np.array_equal(found.labels, [1, 2])


def test_other_files_and_hidden_folders_are_passed_over(root):
    (root / "train" / "blue" / "notes.txt").write_text("none")
    (root / "train" / ".cache").mkdir()
    assert len(read_folder(root, "train").names) == 6


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected train/CLASS/.*--data\.root"):
        read_folder(tmp_path, "train")


def test_no_classes(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(ValueError, match="has no folders; expected one folder"):
        read_folder(tmp_path, "train")


def test_an_empty_class(root):
    (root / "train" / "yellow").mkdir()
    with pytest.raises(ValueError, match=r"yellow has no images"):
        read_folder(root, "train")


def test_a_class_that_training_lacks(root):
    with pytest.raises(ValueError, match=r"has the class green, which the training lacks.* again$"):
        read_folder(root, "val", ("blue", "red"))
    with pytest.raises(ValueError, match=r"has the class green.*; or is it 'Green'"):
        read_folder(root, "val", ("Green", "blue", "red"))


def test_a_name_that_no_table_takes(root):
    (root / "train" / " red").mkdir()
    with pytest.raises(ValueError, match="names the class"):
        read_folder(root, "train")


def test_an_image_whose_name_no_table_takes(root):
    path = root / "train/red/0.png"
    path.rename(path.with_name(os.fsdecode(b"caf\xe9.png")))  # from a zip that is not UTF-8
    for read in (lambda: read_folder(root, "train"), lambda: read_class_folders(root / "train")):
        with pytest.raises(ValueError, match=r"red names the image 'caf.*9\.png', which holds"):
            read()
