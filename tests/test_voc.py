import logging
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detection.data.voc import VOC_CLASSES, make_record, read_voc
from detection.data.voc_xml import CLIPPED, DROPPED, SWAPPED, read_annotation

WIDTH, HEIGHT = 60, 40
SIZE = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"


def object_xml(
    name: str = "dog",
    corners: tuple = (11, 6, 20, 15),
    difficult: str | None = "0",
    inner: str = "",
) -> str:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    box = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    flag = "" if difficult is None else f"<difficult>{difficult}</difficult>"
    return f"<object><name>{name}</name>{flag}{inner}<bndbox>{box}</bndbox></object>"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Adds pictures to a VOC tree: ``write(id="objects")``, sizes as in the XML given."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)

    def add(size: str = SIZE, **objects: str) -> Path:
        for image_id, text in objects.items():
            xml = f"<annotation>{size}{text}</annotation>"
            (tmp_path / "Annotations" / f"{image_id}.xml").write_text(xml)
            Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "JPEGImages" / f"{image_id}.jpg")
        with (tmp_path / "ImageSets/Main/train.txt").open("a") as file:
            file.writelines(f"{image_id}\n" for image_id in objects)
        return tmp_path

    return add


def test_boxes_labels_difficult(write: Callable[..., Path]) -> None:
    second = object_xml("cat", (1, 1, WIDTH, HEIGHT), "1")
    dataset = read_voc(write(b=object_xml() + second, a=""), "train", ("dog", "cat"))
    record, empty = dataset.records
    assert [record.image_id, empty.image_id] == ["b", "a"]  # the split's order
    assert record.size == (HEIGHT, WIDTH)
    assert record.path.name == "b.jpg"
    # 1-based inclusive 11..20 is half-open 10..20; a full-picture box is 0..width
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
    assert read_voc(root, "train", ["zebra", "gnu", "dog", "ox"]).records[2].labels.tolist() == [
        0,
        1,
    ]
    assert read_voc(root, "train", limit=2).classes == ("dog",)  # of the records read
    (root / "ImageSets/Main/nothing.txt").write_text("b\n")
    assert read_voc(root, "nothing").classes == VOC_CLASSES
    with pytest.raises(ValueError, match=r"c\.xml has an object of class 'gnu'.* dog, zebra"):
        read_voc(root, "train", ("dog", "zebra"))
    for wrong in ([], ["dog", "dog"]):
        with pytest.raises(ValueError, match="classes must be names without repetition"):
            read_voc(root, "train", wrong)


def test_voc_classes_are_the_official_twenty() -> None:
    assert len(VOC_CLASSES) == 20
    assert list(VOC_CLASSES) == sorted(VOC_CLASSES)


def test_limit(write: Callable[..., Path]) -> None:
    root = write(c="", a="", b="")
    assert [r.image_id for r in read_voc(root, "train", limit=2).records] == ["c", "a"]
    assert len(read_voc(root, "train", limit=9).records) == 3
    with pytest.raises(ValueError, match="limit must be 1 or more"):
        read_voc(root, "train", limit=0)


def test_split_files(write: Callable[..., Path]) -> None:
    root = write(a="", b="")
    main = root / "ImageSets/Main"
    (main / "dog_train.txt").write_text("b -1\na  1\n\n")
    assert [r.image_id for r in read_voc(root, "dog_train").records] == ["b", "a"]
    (main / "twice.txt").write_text("a\nb\na\n")
    with pytest.raises(ValueError, match=r"twice\.txt names 'a' twice, in lines 1 and 3"):
        read_voc(root, "twice")
    (main / "spaces.txt").write_text("my photo.jpg\n")
    with pytest.raises(ValueError, match=r"line 1 is 'my photo\.jpg'; expected one image id"):
        read_voc(root, "spaces")
    (main / "none.txt").write_text("\n")
    with pytest.raises(ValueError, match="names no image"):
        read_voc(root, "none")
    with pytest.raises(FileNotFoundError, match=r"no split 'val' .* none, spaces, train, twice"):
        read_voc(root, "val")


def test_root_may_be_the_devkit(write: Callable[..., Path], tmp_path: Path) -> None:
    root = write(a=object_xml())
    devkit = tmp_path / "VOCdevkit"
    devkit.mkdir()
    (devkit / "VOC2007").symlink_to(root)
    assert len(read_voc(str(devkit), "train").records) == 1
    for folder, found in (
        (tmp_path / "no", "is not there"),
        (root / "JPEGImages", "holds neither"),
    ):
        with pytest.raises(FileNotFoundError, match=rf"{found}.*get_data\.py voc07.*--data\.root"):
            read_voc(folder, "train")


def test_pictures(write: Callable[..., Path]) -> None:
    root = write(a="", b="", c="")
    pictures = root / "JPEGImages"
    (pictures / "a.jpg").rename(pictures / "a.JPG")
    (pictures / "b.jpg").rename(pictures / "b.jpeg")
    Image.new("L", (WIDTH, HEIGHT)).save(pictures / "c.png")
    names = [r.path.name for r in read_voc(root, "train").records]
    assert names == ["a.JPG", "b.jpeg", "c.jpg"]
    (pictures / "c.jpg").unlink()
    assert read_voc(root, "train").records[2].path.name == "c.png"
    (pictures / "c.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"c\.png is not a readable picture"):
        read_voc(root, "train")
    (pictures / "c.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"no picture at .*c\.jpg.*get_data.*--data\.root"):
        read_voc(root, "train")


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>"])
def test_missing_size_is_the_pictures(size: str, write: Callable[..., Path]) -> None:
    assert read_voc(write(size, a=object_xml()), "train").records[0].size == (HEIGHT, WIDTH)


def test_size_of_another_picture(write: Callable[..., Path]) -> None:
    root = write("<size><width>600</width><height>400</height></size>", a="")
    with pytest.raises(
        ValueError, match=r"a\.xml says height 400, width 600, but .*a\.jpg has height 40, width 60"
    ):
        read_voc(root, "train")


def test_picture_turned_by_its_exif_tag(write: Callable[..., Path]) -> None:
    root = write(f"<size><width>{HEIGHT}</width><height>{WIDTH}</height></size>", a="")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (WIDTH, HEIGHT)).save(root / "JPEGImages/a.jpg", exif=exif)
    assert read_voc(root, "train").records[0].size == (WIDTH, HEIGHT)
    write(b="")  # annotated on the picture as it lies on disk
    Image.new("RGB", (WIDTH, HEIGHT)).save(root / "JPEGImages/b.jpg", exif=exif)
    with pytest.raises(ValueError, match=r"b\.xml says .* once turned upright by its EXIF tag"):
        read_voc(root, "train")


def test_missing_annotation(write: Callable[..., Path]) -> None:
    root = write(a="")
    (root / "Annotations/a.xml").unlink()
    with pytest.raises(FileNotFoundError, match=r"no annotation at .*a\.xml; .*--data\.root"):
        read_voc(root, "train")


def test_record_without_its_picture(write: Callable[..., Path]) -> None:
    """Annotations alone make records too: the metric needs no pictures."""
    path = write(a=object_xml()) / "Annotations/a.xml"
    annotation = read_annotation(path)
    assert annotation.size is not None
    record, repairs = make_record(annotation, "a", Path("a.jpg"), annotation.size, ("dog",))
    assert record.boxes.tolist() == [[10, 5, 20, 15]]
    assert not repairs


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
        pytest.skip(f"this VOC 2007 has no {split} of {count} pictures")
    dataset = read_voc(voc07_root, split)
    assert len(dataset.records) == count
    assert dataset.classes == VOC_CLASSES
    assert not dataset.repairs

    found, easy = Counter[str](), Counter[str]()
    for record in dataset.records:
        names = [VOC_CLASSES[label] for label in record.labels]
        found.update(names)
        easy.update(n for n, hard in zip(names, record.difficult, strict=True) if not hard)
    # the twin: text search, nothing parsed
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

    # the official lists: 1 where the class has an object that is not difficult, 0 where all are
    marks: dict[tuple[str, str], str] = {}
    for record in dataset.records:
        for label, hard in zip(record.labels, record.difficult, strict=True):
            key = (record.image_id, VOC_CLASSES[label])
            marks[key] = max(marks.get(key, "0"), "0" if hard else "1")
    for name in VOC_CLASSES:
        lines = (voc07_root / f"ImageSets/Main/{name}_{split}.txt").read_text().splitlines()
        listed = dict(line.split() for line in lines)
        assert listed == {r.image_id: marks.get((r.image_id, name), "-1") for r in dataset.records}
