"""Test images that are also training images."""

import shutil

import pytest
from made_classes import write_classes

from classification import leaks
from classification.folder import read_folder
from classification.leaks import find_copies, refuse_shared


def test_shared_ids_are_refused():
    refuse_shared(["a", "b"], ["c"], ("train", "val"))
    with pytest.raises(ValueError, match="2 of 3 images of minival are in trainval too, such as b"):
        refuse_shared(["a", "c", "b"], ["c", "d", "b"], ("trainval", "minival"))


SPLITS = ("train", "val")


@pytest.fixture
def root(tmp_path):
    return write_classes(tmp_path / "data", train=3, val=2)


def sets(root):
    return [read_folder(root, split) for split in SPLITS]


def test_copies_are_found_whatever_their_names(root):
    assert find_copies(*sets(root)) == []
    shutil.copy(root / "train/red/1.png", root / "val/red/9.png")
    shutil.copy(root / "train/blue/2.png", root / "val/green/copy.png")
    assert find_copies(*sets(root)) == [
        ("train/blue/2.png", "val/green/copy.png"),
        ("train/red/1.png", "val/red/9.png"),
    ]


def test_only_files_of_one_size_are_read(root, monkeypatch):
    read = []
    monkeypatch.setattr(leaks, "content_digest", lambda path: read.append(path) or str(path))
    sizes = [{each.stat().st_size for each in (root / name).rglob("*.png")} for name in SPLITS]
    assert not sizes[0] & sizes[1]
    assert find_copies(*sets(root)) == []
    assert read == []


def test_a_very_large_set_is_not_read(root, monkeypatch):
    shutil.copy(root / "train/red/1.png", root / "val/red/9.png")
    monkeypatch.setattr(leaks, "MOST_BYTES", 100)
    assert find_copies(*sets(root)) is None


def test_files_without_bytes_are_no_copies(root):
    for split in SPLITS:
        (root / split / "red/empty.png").write_bytes(b"")
        (root / split / "red/away.png").symlink_to(root / "nowhere.png")
    assert find_copies(*sets(root)) == []
