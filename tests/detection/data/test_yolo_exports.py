"""Several YOLO exports below one folder, the splits of data.yaml, lists, names and tracks."""

import logging
import zlib
from pathlib import Path

import pytest
from made_formats import write
from PIL import Image

from detection.data.reading import read_dataset
from detection.data.records import Dataset
from detection.settings.data import Data


def export(root: Path, *names: str, yaml: str | None = None, line: str = "1 0.5 0.5 0.2 0.2\n"):
    """Write images with a label each; the label's path has ``labels`` in place of ``images``."""
    for place, name in enumerate(names):
        image = root / name
        image.parent.mkdir(parents=True, exist_ok=True)
        colour = (place, zlib.crc32(root.name.encode()) % 256, 0)  # exports share no image
        Image.new("RGB", (60, 40), colour).save(image)
        label = "/".join("labels" if part == "images" else part for part in Path(name).parts)
        write((root / label).with_suffix(".txt"), line)
    if yaml is not None:
        write(root / "data.yaml", yaml)


def read(root: Path, split: str = "all") -> Dataset:
    return read_dataset(Data(str(root)), split)


def classes_of(dataset: Dataset) -> dict[str, list[str]]:
    return {
        record.image_id: [dataset.classes[label] for label in record.labels]
        for record in dataset.records
    }


def ids(dataset: Dataset) -> list[str]:
    return [record.image_id for record in dataset.records]


def test_each_export_has_its_own_names(tmp_path: Path) -> None:
    export(tmp_path / "fruit", "train/images/a.jpg", yaml="names: [leaf, apple]\n")
    export(tmp_path / "trees", "train/images/b.jpg", yaml="names: [apple, leaf, bark]\n")
    export(tmp_path / "old", "c.jpg")
    write(tmp_path / "old/classes.txt", "x\ny\n")
    found = read(tmp_path)
    assert found.classes == ("apple", "leaf", "y")  # merged by name, not by number
    assert classes_of(found) == {"fruit/a": ["apple"], "trees/b": ["leaf"], "old/c": ["y"]}


def test_names_that_are_equally_near(tmp_path: Path) -> None:
    export(tmp_path, "images/a.jpg", yaml="names: [cat, dog]\n")
    for name, text in (
        ("old_names.yaml", "names: [dog, cat]\n"),
        ("classes.txt", "dog\ncat\n"),
        ("labels/classes.txt", "dog\ncat\n"),
    ):
        write(tmp_path / name, text)
        with pytest.raises(ValueError, match=rf"data\.yaml and .*{name} name different classes"):
            read(tmp_path)
        write(tmp_path / name, "names: [cat, dog]\n" if "yaml" in name else "cat\ndog\n")
        assert classes_of(read(tmp_path)) == {"a": ["dog"]}


def test_names_elsewhere(tmp_path: Path) -> None:
    export(tmp_path, "fruit/images/a.jpg", "trees/images/b.jpg")
    write(tmp_path / "meta/classes.txt", "cat\ndog\n")
    assert classes_of(read(tmp_path)) == {"fruit/a": ["dog"], "trees/b": ["dog"]}
    # A classes.txt of other labels is not used.
    (tmp_path / "meta/classes.txt").rename(tmp_path / "fruit/classes.txt")
    with pytest.raises(FileNotFoundError, match=r"trees/labels/b\.txt, but no data\.yaml or"):
        read(tmp_path)


def test_yaml_files_side_by_side(tmp_path: Path) -> None:
    """``path`` names the YAML file's data set, as in Ultralytics' folder of data sets."""
    for name, classes in (("fruit", "[apple, pear]"), ("trees", "[oak, elm]")):
        export(tmp_path / name, "images/train/a.jpg", "images/val/b.jpg")
        text = f"path: ../datasets/{name}\ntrain: images/train\nval: images/val\nnames: {classes}\n"
        write(tmp_path / f"{name}.yaml", text.replace("../datasets/", "/home/me/datasets/"))
    assert classes_of(read(tmp_path, "train")) == {"fruit/a": ["pear"], "trees/a": ["elm"]}
    assert ids(read(tmp_path, "test")) == ["fruit/b", "trees/b"]


@pytest.mark.parametrize(
    "head",
    [
        "train: images/one\nval: images/two",
        "path: .\ntrain: images/one\nval: [images/two, images/three]",
        "path: /content/drive/fruit\ntrain: images/one\nval: images/two",
        "path: C:\\data\\fruit\ntrain: images\\one\nval: images\\two",
        "path: ../datasets/fruit\ntrain: ./images/one\nval: images/two/",
        "train: ../images/one\nval: ../images/two",
        "train: /content/fruit/images/one\nval: /content/fruit/images/two",
        "train: one.txt\nval: lists/two.txt",
    ],
)
def test_splits_of_data_yaml(head: str, tmp_path: Path) -> None:
    root = tmp_path / "fruit"
    names = ("images/one/a.jpg", "images/two/b.jpg", "images/three/c.jpg")
    export(root, *names, yaml=f"{head}\ntest:\nnames:\n  0: cat\n  1: dog\n")
    write(root / "one.txt", "./images/one/a.jpg\n")
    write(root / "lists/two.txt", "/home/me/fruit/images/two/b.jpg\n")
    assert ids(read(root, "trainval")) == ["one/a"]
    assert ids(read(root, "test"))[-1] == "two/b"


def test_data_yaml_outranks_folders(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    yaml = "train: images/test\nval: images/train\ntest: images/gone\nnames: [cat, dog]\n"
    export(tmp_path, "images/test/a.jpg", "images/train/b.jpg", yaml=yaml)
    assert ids(read(tmp_path, "train")) == ["a"]
    assert ids(read(tmp_path, "val")) == ["b"]
    assert "data.yaml names 'images/gone' for test, but there is no image" in caplog.text


def test_a_missing_split_is_no_other_folder(tmp_path: Path) -> None:
    """A path of another machine is not matched by its last folder ``images`` alone."""
    yaml = "train: /x/fruit/images\nval: /x/valid/images\nnames: [cat, dog]\n"
    export(tmp_path, *(f"images/{n}.jpg" for n in range(5)), yaml=yaml)
    parts = [len(read(tmp_path, split).records) for split in ("train", "test")]
    assert sum(parts) == 5  # by content
    assert min(parts) > 0


def test_train_and_val_alike(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    yaml = "train: images\nval: images\nnames: [cat, dog]\n"
    export(tmp_path, *(f"images/{n}.jpg" for n in range(10)), yaml=yaml)
    parts = [read(tmp_path, split).records for split in ("train", "test")]
    assert [len(part) for part in parts] == [8, 2]
    assert "in two splits of a YAML file, ignored there: 10, first" in caplog.text
    # Where val's folder is inside train's, train has the images that val does not.
    export(tmp_path, "images/val/b.jpg", yaml=yaml.replace("val: images", "val: images/val"))
    assert ids(read(tmp_path, "val")) == ["b"]
    assert len(read(tmp_path, "train").records) == 10


def test_nothing_outside_the_root(tmp_path: Path) -> None:
    root = tmp_path / "fruit"
    yaml = f"path: ..\ntrain: secret\nval: ../secret.txt\ntest: {tmp_path}/secret.txt\n"
    export(root, *(f"images/{n}.jpg" for n in range(5)), yaml=f"{yaml}names: [cat, dog]\n")
    export(tmp_path / "secret", "images/z.jpg")
    (tmp_path / "secret.txt").write_bytes(b"\xff\xfe\xff")
    parts = [len(read(root, split).records) for split in ("trainval", "test")]
    assert sum(parts) == 5  # by content
    assert min(parts) > 0


def test_lists_of_another_machine_and_prose(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    export(tmp_path, "obj/a.jpg", "obj/b.jpg")
    write(tmp_path / "obj.names", "cat\ndog\n")
    write(tmp_path / "train.txt", "/home/me/darknet/data/obj/a.jpg\n")
    write(tmp_path / "test_list.txt", "C:\\darknet\\obj\\b.jpg\n")
    write(tmp_path / "test_notes.txt", "The test was done in May;\nsee obj/b.jpg for the light.\n")
    assert ids(read(tmp_path, "train")) == ["obj/a"]
    assert ids(read(tmp_path, "test")) == ["obj/b"]
    assert "but without images, ignored: 1, first " in caplog.text
    assert (
        "names of images with paths of another place, matched by their ends: 2, first"
        in caplog.text
    )
    write(tmp_path / "train.txt", "gone.jpg\n")
    with pytest.raises(FileNotFoundError, match=r"train\.txt line 1 names the image 'gone\.jpg'"):
        read(tmp_path)


def test_an_image_in_two_lists(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    export(tmp_path, *(f"obj/{name}.jpg" for name in "abcd"), yaml="names: [cat, dog]\n")
    for split, names in (("train", "ab"), ("val", "bc"), ("trainval", "abcd")):
        write(tmp_path / f"{split}.txt", "".join(f"obj/{name}.jpg\n" for name in names))
    assert ids(read(tmp_path, "train")) == ["obj/a"]
    assert ids(read(tmp_path, "val")) == ["obj/c"]
    assert "in two splits of lists, ignored there: 1, first" in caplog.text
    assert "obj/b.jpg (train and val)" in caplog.text
    assert ids(read(tmp_path, "trainval")) == ["obj/d"]


@pytest.mark.parametrize(
    ("yaml", "name"),
    [
        ("names: [no, yes]", "yes"),
        ("names: [7, 010]", "010"),
        ("names: {'0': cat, '1': dog}", "dog"),
        ("names: {1: dog, 0: cat}", "dog"),
        ("names: [cat, null]", "null"),
        ("names:\n- cat\n- 1.50", "1.50"),
    ],
)
def test_names_are_texts(yaml: str, name: str, tmp_path: Path) -> None:
    export(tmp_path, "images/a.jpg", yaml=f"{yaml}\n")
    assert read(tmp_path).classes == (name,)


@pytest.mark.parametrize("yaml", ["names: []", "names:", "names: [[a], b]", "names: coco.names"])
def test_names_that_are_no_list(yaml: str, tmp_path: Path) -> None:
    export(tmp_path, "images/a.jpg", yaml=f"{yaml}\n")
    with pytest.raises(ValueError, match=r"data\.yaml has .* for names; expected a list"):
        read(tmp_path)


def test_blank_lines_of_lists_of_classes(tmp_path: Path) -> None:
    export(tmp_path, "images/a.jpg")
    write(tmp_path / "classes.txt", "cat\ndog\n\n  \n")
    assert read(tmp_path).classes == ("dog",)
    for text, line in (("cat\n\ndog\n", 2), ("\ncat\ndog\n", 1)):
        write(tmp_path / "classes.txt", text)
        with pytest.raises(ValueError, match=rf"classes\.txt line {line} is blank, but each line"):
            read(tmp_path)


TRIANGLE = "0 0.1 0.1 0.5 0.1 0.3 0.75\n"
TRACK = "0 .5 .5 .2 .2 .91 1\n"


@pytest.mark.parametrize("lines", [TRACK, f"0 .5 .5 .2 .2\n{TRACK}", f"{TRIANGLE}0 0 0 1 0 0 2\n"])
def test_tracks_are_no_triangles(lines: str, tmp_path: Path) -> None:
    export(tmp_path, "images/a.jpg", yaml="names: [cat, dog]\n", line=lines)
    with pytest.raises(ValueError, match=r"line \d has 6 numbers after its class, the last of"):
        read(tmp_path)


def test_triangles_are_no_tracks(tmp_path: Path) -> None:
    lines = f"{TRIANGLE}0 0.1 0.1 0.5 0.1 0.3 1\n"  # one has a corner at the edge
    export(tmp_path, "images/a.jpg", yaml="names: [cat, dog]\n", line=lines)
    assert read(tmp_path).records[0].boxes.shape == (2, 4)
    polygon = "0 0.1 0.1 0.5 0.1 0.3 0.75 0.2 0.5\n0 0 0 1 0 0 1\n"
    write(tmp_path / "labels/a.txt", polygon)
    assert read(tmp_path).records[0].boxes.tolist()[1] == [0, 0, 60, 40]
    # With kpt_shape, the line of a track is a box with a keypoint.
    write(tmp_path / "labels/a.txt", TRACK)
    write(tmp_path / "data.yaml", "kpt_shape: [1, 2]\nnames: [cat, dog]\n")
    assert read(tmp_path).records[0].boxes.tolist() == [[24, 16, 36, 24]]
