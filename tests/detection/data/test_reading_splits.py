"""The splits of any format: by folders, by lists, by content; and the lists stored in a run."""

import logging
from pathlib import Path

import pytest
from made_formats import CLASSES, WRITERS, draw, write, write_xml, xml_of

from detection.data.reading import LISTS, read_dataset
from detection.data.records import Dataset
from detection.settings.data import Data, Split


def ids(dataset: Dataset) -> list[str]:
    return [record.image_id for record in dataset.records]


def said(caplog: pytest.LogCaptureFixture) -> str:
    (line,) = [each.message for each in caplog.records if each.levelno == logging.INFO]
    return line


@pytest.mark.parametrize("above", ["", "VOC2007"])
@pytest.mark.parametrize("form", ["voc", "auto"])
def test_lists_and_all_in_vocs_layout(form: str, above: str, tmp_path: Path) -> None:
    drawn = draw(6)
    WRITERS["voc"](tmp_path / "data" / above, drawn)
    main = tmp_path / "data" / above / "ImageSets/Main"
    (main / "all.txt").rename(main / "train.txt")
    root, lists = str(tmp_path / "data"), tmp_path / "lists"
    names = sorted(each.name for each in drawn)
    assert sorted(ids(read_dataset(Split(root, format=form), "all"))) == names
    write(lists / "mine.txt", f"{drawn[1].name}\n{drawn[0].name}\n")
    data = Data(root, format=form, lists=str(lists))
    assert ids(read_dataset(data, "mine")) == [drawn[1].name, drawn[0].name]
    assert sorted(ids(read_dataset(data, "all"))) == names
    with pytest.raises(FileNotFoundError, match=r"no split 'train' in .*; splits there: mine"):
        read_dataset(data, "train")
    # A split that VOC's lists lack is refused.
    if form == "voc":
        with pytest.raises(FileNotFoundError, match=r"no split 'val' at .*; splits there: train"):
            read_dataset(Data(root, format="voc"), "val")


def test_a_split_by_content(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_xml(tmp_path / "data", draw(20))
    data, run = Data(str(tmp_path / "data")), tmp_path / "run"
    caplog.set_level(logging.INFO)
    train = read_dataset(data, Data.train_split, kept=run)
    assert "split by content" in said(caplog)
    assert f"({run / LISTS}) train, 16 images" in said(caplog)
    test = read_dataset(data, Data.test_split, train.classes, kept=run)
    assert (len(train.records), len(test.records)) == (16, 4)
    assert not set(ids(train)) & set(ids(test))
    # The run's lists, given as such or as --data.lists, and a new split by content are equal.
    for again in (
        read_dataset(data, "train", kept=run),
        read_dataset(Data(data.root, lists=str(run / LISTS)), "trainval"),
        read_dataset(Split(data.root, "train"), "train"),
    ):
        assert ids(again) == ids(train)
    assert len(read_dataset(data, "train", limit=3).records) == 3
    with pytest.raises(ValueError, match="limit must be 1 or more"):
        read_dataset(data, "train", limit=0)
    with pytest.raises(
        FileNotFoundError, match=r"no split 'day1' in .*; splits there: test, train"
    ):
        read_dataset(data, "day1")


def test_a_run_keeps_its_split_when_images_come(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    drawn = draw(12)
    write_xml(tmp_path / "data", drawn[:10])
    data = Data(str(tmp_path / "data"))
    before = [ids(read_dataset(data, split, kept=tmp_path)) for split in ("train", "test")]
    assert "came after" not in caplog.text
    write_xml(tmp_path / "data", drawn[10:])
    after = [ids(read_dataset(data, split, kept=tmp_path)) for split in ("train", "test")]
    assert before == after
    assert (
        caplog.text.count(f"2 labelled images were added after the lists in {tmp_path / LISTS}")
        == 2
    )


def test_a_run_that_was_killed_between_its_lists(tmp_path: Path) -> None:
    write_xml(tmp_path / "data", draw(10))
    data = Data(str(tmp_path / "data"))
    before = [ids(read_dataset(data, split, kept=tmp_path)) for split in ("train", "test")]
    (tmp_path / LISTS / "test.txt").unlink()
    after = [ids(read_dataset(data, split, kept=tmp_path)) for split in ("train", "test")]
    assert before == after


@pytest.mark.parametrize("kept", [False, True])
def test_three_images_of_classes_of_their_own(kept: bool, tmp_path: Path) -> None:
    drawn = draw(4)[:3]
    for each, name in zip(drawn, CLASSES, strict=True):
        each.objects[:] = [("common", [1, 1, 20, 20]), (name, [5, 5, 30, 30])]
    write_xml(tmp_path / "data", drawn)
    data, run = Data(str(tmp_path / "data")), tmp_path if kept else None
    train = read_dataset(data, "train", kept=run)
    (test,) = read_dataset(data, "test", train.classes, kept=run).records
    assert len(train.classes) == 3
    assert test.labels.tolist() == [train.classes.index("common")]


@pytest.mark.parametrize("lists", [False, True])
def test_a_class_that_only_the_test_has(
    lists: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its objects are left out of the test, also where folders or lists make the splits."""
    drawn = draw(6)
    drawn[5].objects[:] = [("ball", [1, 1, 20, 20]), ("rare", [5, 5, 30, 30])]
    for split, images in (("train", drawn[:3]), ("valid", drawn[4:])):
        write_xml(tmp_path / "data" / split, images)
        write(tmp_path / f"lists/{split}.txt", "".join(f"{each.name}\n" for each in images))
    data = Data(str(tmp_path / "data"), lists=str(tmp_path / "lists") if lists else None)
    train = read_dataset(data, "train")
    test = read_dataset(data, "valid", train.classes)
    assert [len(record.boxes) for record in test.records if record.image_id == drawn[5].name] == [1]
    assert "the training images lack, left out of the test: rare 1" in caplog.text
    assert "rare" in read_dataset(data, "valid").classes


def test_the_split_that_was_read_is_named(tmp_path: Path) -> None:
    write_xml(tmp_path, draw(10))
    for asked, read in (("trainval", "train"), ("test", "test"), ("all", "all")):
        assert read_dataset(Data(str(tmp_path)), asked).split == read


def test_lists_by_hand(tmp_path: Path) -> None:
    drawn = draw(4)
    write_xml(tmp_path / "data", drawn)
    lists = tmp_path / "lists"
    data = Data(str(tmp_path / "data"), lists=str(lists))
    with pytest.raises(FileNotFoundError, match=r"no lists in .*; write train\.txt and test\.txt"):
        read_dataset(data, "train")
    write(lists / "train.txt", f"{drawn[2].name}\n{drawn[0].name}.jpg\n")
    assert ids(read_dataset(data, "train")) == [drawn[2].name, drawn[0].name]
    for text, message in (
        ("no\n", r"train\.txt line 1 names 'no', which is not among the 4 labelled images"),
        ("../a\n", r"line 1 names the image '\.\./a', which leaves its folder"),
        (f"{drawn[0].name}\n" * 2, r"line 2 names '.*' a second time"),
        ("\n", "names no image"),
    ):
        write(lists / "train.txt", text)
        with pytest.raises(ValueError, match=message):
            read_dataset(data, "train")


@pytest.mark.parametrize(
    "pattern", ["{split}/{name}", "images/{split}/{name}", "{split}2017/{name}"]
)
def test_split_folders(pattern: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    drawn = draw(9)[:6]
    for place, each in enumerate(drawn):
        split = ("train", "valid", "test")[place % 3]
        path = tmp_path / pattern.format(split=split, name=each.name)
        each.save(Path(str(path).removesuffix(each.name)))
        write(path.with_name(f"{path.name}.xml"), xml_of(each))
    data = Data(str(tmp_path))
    caplog.set_level(logging.INFO)
    names = [each.name for each in drawn]
    assert sorted(ids(read_dataset(data, "trainval"))) == sorted(names[0::3])
    assert "6 labelled images; its own split train, 2 images" in said(caplog)
    for name in ("val", "valid"):
        assert sorted(ids(read_dataset(data, name))) == sorted(names[1::3])
    assert sorted(ids(read_dataset(data, "test"))) == sorted(names[2::3])
    assert sorted(ids(read_dataset(data, "all"))) == sorted(names)
    with pytest.raises(FileNotFoundError, match="splits there: test, train, val"):
        read_dataset(data, "minival")


def test_val_stands_in_for_test(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_xml(tmp_path / split, draw(3))
    test = read_dataset(Data(str(tmp_path)), "test")
    assert all("val" in record.path.parts for record in test.records)
    everything = ids(read_dataset(Data(str(tmp_path)), "all"))  # both splits have the same names
    assert len(set(everything)) == 6
    assert "val/b00.rf.1" in everything


def test_one_split_folder_is_none(tmp_path: Path) -> None:
    """An export in which everything is 'train' is split by content."""
    write_xml(tmp_path / "train", draw(10))
    assert len(read_dataset(Data(str(tmp_path)), "trainval").records) == 8
    assert len(read_dataset(Data(str(tmp_path)), "test").records) == 2
