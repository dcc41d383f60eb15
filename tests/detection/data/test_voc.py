import logging
import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from made_voc import HEIGHT, WIDTH, add_images, object_xml

from detection.data.annotations import CLIPPED, DROPPED, MOSTLY_OUTSIDE, SWAPPED, make_record
from detection.data.voc import VOC_CLASSES, read_voc
from detection.data.voc_xml import read_annotation


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    return partial(add_images, tmp_path)


def test_boxes_labels_difficult(write: Callable[..., Path]) -> None:
    second = object_xml("cat", (1, 1, WIDTH, HEIGHT), "1")
    dataset = read_voc(write(b=object_xml() + second, a=""), "train", ("dog", "cat"))
    record, empty = dataset.records
    assert [record.image_id, empty.image_id] == ["b", "a"]  # in the split's order
    assert record.size == (HEIGHT, WIDTH)
    assert record.path.name == "b.jpg"
    # 1-based inclusive 11..20 is half-open 10..20; a full-image box is 0..width
    assert record.boxes.tolist() == [[10, 5, 20, 15], [0, 0, WIDTH, HEIGHT]]
    assert record.boxes.dtype == np.float32
    assert record.labels.tolist() == [0, 1]
    assert record.labels.dtype == np.int64
    assert record.difficult.tolist() == [False, True]
    assert empty.boxes.shape == (0, 4)
    assert empty.labels.dtype == np.int64
    assert empty.difficult.dtype == np.bool_
    assert not dataset.repairs


def test_flags_and_labels_stay_with_their_boxes(write: Callable[..., Path]) -> None:
    outside = object_xml("cow", (0, 0, 0, 0), "1")
    text = object_xml("cat") + outside + object_xml("dog", (20, 15, 11, 6), "1")
    dataset = read_voc(write(a=text), "train", ("cow", "cat", "dog"))
    record = dataset.records[0]
    assert record.labels.tolist() == [1, 2]
    assert record.difficult.tolist() == [False, True]
    assert record.boxes.tolist() == [[10, 5, 20, 15]] * 2
    assert dataset.repairs == {DROPPED: 1, SWAPPED: 1}


def test_one_warning_a_kind(write: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    bad = object_xml(corners=(0, 0, 9, 9))
    with caplog.at_level(logging.WARNING):
        root = write(a=object_xml(), b=bad + bad, c=bad + object_xml(corners=(9, 9, 1, 1)))
        dataset = read_voc(root, "train")
    assert dataset.repairs == {CLIPPED: 3, SWAPPED: 1}
    assert len(caplog.messages) == 2
    assert "clipped: 3 in train, first in " in caplog.messages[0]
    assert caplog.messages[0].endswith("b.xml")


def test_boxes_of_another_version_are_counted_apart(
    write: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    text = object_xml(corners=(50, 30, 160, 140)) + object_xml(corners=(41, 6, 70, 15))
    dataset = read_voc(write("", a=text), "train")
    assert dataset.records[0].boxes.tolist() == [[40, 5, WIDTH, 15]]
    assert dataset.repairs == {MOSTLY_OUTSIDE: 1, CLIPPED: 1}
    assert any("another version of it?), dropped: 1 in train" in line for line in caplog.messages)


def test_parts_are_not_objects(write: Callable[..., Path]) -> None:
    part = (
        "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax></bndbox></part>"
    )
    record = read_voc(write(a=object_xml("person", inner=part)), "train").records[0]
    assert record.boxes.tolist() == [[10, 5, 20, 15]]


@pytest.mark.parametrize("difficult", [None, "", "0"])
def test_missing_difficult(difficult: str | None, write: Callable[..., Path]) -> None:
    record = read_voc(write(a=object_xml(difficult=difficult)), "train").records[0]
    assert record.difficult.tolist() == [False]


def test_classes(write: Callable[..., Path]) -> None:
    root = write(a=object_xml("dog"), b="")
    assert read_voc(root, "train").classes == ("dog",)
    assert read_voc(root, "train").records[0].labels.tolist() == [0]
    write(c=object_xml("zebra") + object_xml("gnu"))
    assert read_voc(root, "train").classes == ("dog", "gnu", "zebra")
    given = read_voc(root, "train", ["zebra", "gnu", "dog", "ox"])
    assert given.records[2].labels.tolist() == [0, 1]
    assert read_voc(root, "train", limit=2).classes == ("dog",)  # classes of the records read
    with pytest.raises(ValueError, match=r"c\.xml has an object of class 'gnu'.* dog, zebra$"):
        read_voc(root, "train", ("dog", "zebra"))
    for wrong in ([], ["dog", "dog"]):
        with pytest.raises(ValueError, match="classes must be names without repetition"):
            read_voc(root, "train", wrong)
    with pytest.raises(ValueError, match=r"list of classes names the class '\.\./dog'"):
        read_voc(root, "train", ["../dog"])


def test_voc_classes_are_in_the_official_order(write: Callable[..., Path]) -> None:
    assert len(VOC_CLASSES) == 20
    assert list(VOC_CLASSES) == sorted(VOC_CLASSES)
    root = write(a=object_xml("train"), b=object_xml("bus"))
    assert read_voc(root, "train").classes == ("bus", "train")


def test_class_names_of_any_letters(write: Callable[..., Path]) -> None:
    names = ("car/van", "дом", "信号灯")
    root = write(a="".join(map(object_xml, names)))
    assert read_voc(root, "train").classes == names


@pytest.mark.parametrize("name", ["../dog", "/dog", "a\nb", "d" * 300, "a/../b"])
def test_class_names_that_leave_a_folder(name: str, write: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=r"a\.xml names the class '"):
        read_voc(write(a=object_xml(name)), "train")


def test_classes_that_differ_by_case(
    write: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    names = ("Dog", "dog", "red  car", "red car", "caf\u00e9", "cafe\u0301", "ox")
    root = write(a="".join(map(object_xml, names)))
    dataset = read_voc(root, "train")
    assert dataset.classes == tuple(sorted(names))  # kept apart
    (line,) = caplog.messages
    assert "'Dog' and 'dog'" in line
    assert "'red  car' and 'red car'" in line
    assert "caf\u00e9" in line
    assert "ox" not in line
    with pytest.raises(ValueError, match=r"class 'Dog', which is none .* dog; is it 'dog'\?"):
        read_voc(root, "train", ["dog"])


def test_no_object_at_all(write: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    """Without objects there are no classes: VOC's 20 are not assumed."""
    root = write(b="", a="")
    with pytest.raises(ValueError, match=r"no object in the 2 annotation .* look at .*b\.xml"):
        read_voc(root, "train")
    # An image without objects is fine in a test of known classes.
    dataset = read_voc(root, "train", ["dog"])
    assert [len(record.boxes) for record in dataset.records] == [0, 0]
    assert caplog.messages[-1].startswith("images without objects: 2 of 2 in train, first ")


def test_images_without_objects_are_counted(
    write: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    assert len(read_voc(write(c=object_xml(), b="", a=""), "train").records) == 3
    (line,) = caplog.messages
    assert line.startswith("images without objects: 2 of 3 in train, first ")
    assert line.endswith("b.xml")


def test_limit(write: Callable[..., Path]) -> None:
    root = write(c=object_xml(), a="", b="")
    assert [r.image_id for r in read_voc(root, "train", limit=2).records] == ["c", "a"]
    assert len(read_voc(root, "train", limit=9).records) == 3
    with pytest.raises(ValueError, match="limit must be 1 or more"):
        read_voc(root, "train", limit=0)


def test_record_without_its_image(write: Callable[..., Path]) -> None:
    """A record can be made without its image file, as the metric needs no images."""
    path = write(a=object_xml()) / "Annotations/a.xml"
    annotation = read_annotation(path)
    assert annotation.size is not None
    record, repairs = make_record(annotation, "a", Path("a.jpg"), annotation.size, ("dog",))
    assert record.boxes.tolist() == [[10, 5, 20, 15]]
    assert not repairs


def test_reads_without_images(write: Callable[..., Path]) -> None:
    root = write(**{"day.1/a": object_xml()})
    (root / "JPEGImages/day.1/a.jpg").unlink()
    (record,) = read_voc(root, "train", images=False).records
    assert record.path == root / "JPEGImages/day.1/a.jpg"
    assert record.size == (HEIGHT, WIDTH)
    write("", b=object_xml())
    assert read_voc(root, "train", images=False).records[-1].size == (HEIGHT, WIDTH)
    (root / "JPEGImages/b.jpg").unlink()
    with pytest.raises(
        ValueError, match=r"b\.xml gives no <size>, and there is no image at .*b\.jpg"
    ):
        read_voc(root, "train", images=False)


@pytest.mark.data
@pytest.mark.parametrize(("split", "count"), [("train", 2500), ("minival", 1254)])
def test_real_annotations(split: str, count: int, voc07_root: Path) -> None:
    if not (voc07_root / f"ImageSets/Main/{split}.txt").exists() or (
        split == "train"
        and (len((voc07_root / "ImageSets/Main/train.txt").read_text().split()) != count)
    ):
        pytest.skip(f"the full VOC 2007 has another {split}")
    ids = voc07_root / "ImageSets/Main" / f"{split}.txt"
    if not ids.exists() or len(ids.read_text().split()) != count:
        pytest.skip(f"this VOC 2007 has no {split} of {count} images")
    dataset = read_voc(voc07_root, split)
    assert len(dataset.records) == count
    assert dataset.classes == VOC_CLASSES
    assert not dataset.repairs

    found, easy = Counter[str](), Counter[str]()
    for record in dataset.records:
        names = [VOC_CLASSES[label] for label in record.labels]
        found.update(names)
        easy.update(n for n, hard in zip(names, record.difficult, strict=True) if not hard)
    # the twin searches the text instead of parsing it
    expected, expected_easy = Counter[str](), Counter[str]()
    for record in dataset.records:
        text = (voc07_root / "Annotations" / f"{record.image_id}.xml").read_text()
        text = re.sub(r"<part>.*?</part>", "", text, flags=re.DOTALL)
        for item in re.findall(r"<object>(.*?)</object>", text, flags=re.DOTALL):
            name = re.search(r"<name>(\w+)</name>", item)
            assert name is not None
            expected[name[1]] += 1
            expected_easy[name[1]] += "<difficult>1</difficult>" not in item
    assert found == expected
    assert easy == expected_easy

    # the official lists have 1 for an object that is not difficult, 0 if all are difficult
    marks: dict[tuple[str, str], str] = {}
    for record in dataset.records:
        for label, hard in zip(record.labels, record.difficult, strict=True):
            key = (record.image_id, VOC_CLASSES[label])
            marks[key] = max(marks.get(key, "0"), "0" if hard else "1")
    for name in VOC_CLASSES:
        lines = (voc07_root / f"ImageSets/Main/{name}_{split}.txt").read_text().splitlines()
        listed = dict(line.split() for line in lines)
        assert listed == {r.image_id: marks.get((r.image_id, name), "-1") for r in dataset.records}
