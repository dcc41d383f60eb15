"""The split of a folder, and the image that a label file or a name belongs to."""

import logging
from pathlib import Path

import pytest
from made_formats import draw, write, write_xml, xml_of
from PIL import Image

from detection.data.folder import SHEET, DataFolder
from detection.data.reading import read_dataset
from detection.data.split_names import split_folders
from detection.settings.data import Data

LINE = "0 0.5 0.5 0.2 0.2\n"


def images(root: Path, *names: str) -> None:
    for place, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40), (place, 0, 0)).save(path)


def of(root: Path, annotation: str) -> str | None:
    write(root / annotation, LINE)
    found = DataFolder(root).image_of(Path(annotation))
    return None if found is None else found.as_posix()


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (["train", "valid", "test2017"], ["train", "val", "test"]),
        (["trainset", "Test Set", "validation_set"], ["train", "test", "val"]),
        (["trainval", "train_val"], ["trainval", "trainval"]),
        (["obj_train_data", "train_a", "test-images"], ["train", "train", "test"]),
        (["fruit-test.v1i/train", "fruit-test.v1i/valid"], ["train", "val"]),
        (["street_train", "street_test"], ["train", "test"]),
        (["street_train", "street_other"], [None, None]),
        (["train station", "test site"], [None, None]),
        (["fruit-test.v1i", "trainer", "contest"], [None, None, None]),
    ],
)
def test_splits_that_folders_tell(folders: list[str], splits: list[str | None]) -> None:
    found = split_folders(map(Path, folders))
    assert [found.get(Path(each)) for each in folders] == splits


def test_names_of_labels_written_as_in_a_url(tmp_path: Path) -> None:
    images(tmp_path, "images/a b.jpg", "images/c%20d.jpg", "images/e f.jpg", "images/e%20f.jpg")
    assert of(tmp_path, "labels/a%20b.txt") == "images/a b.jpg"
    assert of(tmp_path, "labels/c d.txt") == "images/c%20d.jpg"
    assert of(tmp_path, "labels/e f.txt") == "images/e f.jpg"
    assert of(tmp_path, "labels/e%20f.txt") == "images/e%20f.jpg"
    images(tmp_path / "other", "%61 b.jpg", "a%20b.jpg")
    with pytest.raises(ValueError, match=r"may belong to .*%61 b\.jpg or .*a%20b\.jpg"):
        of(tmp_path / "other", "a b.txt")


def test_yolo_beside_images_of_names_written_as_in_a_url(tmp_path: Path) -> None:
    images(tmp_path, "a b.jpg", "c d.jpg")
    for name in ("a%20b", "c%20d"):
        write(tmp_path / f"{name}.txt", LINE)
    write(tmp_path / "classes.txt", "cat\n")
    found = read_dataset(Data(str(tmp_path)), "all")
    assert [len(record.boxes) for record in found.records] == [1, 1]
    write(tmp_path / "a b.txt", LINE)
    with pytest.raises(ValueError, match=r"a b\.jpg is annotated twice, .*a b\.txt and .*%20"):
        read_dataset(Data(str(tmp_path)), "all")


def test_what_commands_draw_is_no_image_of_the_data(tmp_path: Path) -> None:
    images(tmp_path, "images/a.jpg", "detected/a.jpg", "detected/own.jpg")
    images(tmp_path, SHEET, "images/precision_recall.png")
    found = DataFolder(tmp_path).images
    assert [each.as_posix() for each in found] == ["detected/own.jpg", "images/a.jpg"]


@pytest.mark.parametrize("above", ["fruit-test.v1i.yolov8", "train station", "my/test data v2"])
def test_the_innermost_folder_is_the_split(above: str, tmp_path: Path) -> None:
    for split in ("train", "valid"):
        write_xml(tmp_path / above / split, draw(3))
    train, test = (read_dataset(Data(str(tmp_path)), split) for split in ("trainval", "test"))
    assert {record.path.relative_to(tmp_path / above).parts[0] for record in train.records} == {
        "train"
    }
    assert test.split == "val"
    assert train.records[0].image_id.startswith(f"{above}/")


def test_what_is_in_no_split_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    write_xml(tmp_path / "train", draw(4))
    read_dataset(Data(str(tmp_path)), "all")
    assert "labelled images" not in caplog.text
    read_dataset(Data(str(tmp_path)), "train")
    assert "the split 'train' of 4 of the 4 labelled images in" in caplog.text
    write_xml(tmp_path / "holdout", draw(3))
    read_dataset(Data(str(tmp_path)), "test")
    assert "the split 'train' of 4 of the 7 labelled images in" in caplog.text
    write_xml(tmp_path / "test", draw(2))
    read_dataset(Data(str(tmp_path)), "test")
    assert "labelled images in no split, which only 'all' has: 3 of 9, first " in caplog.text


def test_a_label_is_of_no_image_in_a_folder_that_contradicts(tmp_path: Path) -> None:
    images(tmp_path, "images/video1/0001.jpg", "images/video2/0002.jpg")
    assert of(tmp_path, "labels/video2/0002.txt") == "images/video2/0002.jpg"
    assert of(tmp_path, "labels/video1/0002.txt") is None
    assert of(tmp_path, "my labels/video1/0002.txt") is None
    write(tmp_path / "classes.txt", "cat\n")
    with pytest.raises(
        FileNotFoundError, match=r"no image of the labels .*labels/video1/0002\.txt"
    ):
        read_dataset(Data(str(tmp_path)), "all")


def test_a_label_beside_images_is_of_none_elsewhere(tmp_path: Path) -> None:
    images(tmp_path, "video1/0001.jpg", "video2/0002.jpg")
    write(tmp_path / "video1/0001.txt", LINE)
    assert of(tmp_path, "video1/0002.txt") is None
    write(tmp_path / "classes.txt", "cat\n")
    with pytest.raises(FileNotFoundError, match=r"no image of the labels .*video1/0002\.txt"):
        read_dataset(Data(str(tmp_path)), "all")


def test_an_xml_whose_image_is_gone(tmp_path: Path) -> None:
    (one, other) = draw(3)[:2]
    one.save(tmp_path / "images/day1")
    other.save(tmp_path / "images/day2")
    write(tmp_path / f"annots/day1/{one.name}.xml", xml_of(one))
    text = xml_of(one).replace("<size>", f"<filename>{Path(other.name).name}.jpg</filename><size>")
    write(tmp_path / "annots/day1/gone.xml", text)
    with pytest.raises(FileNotFoundError, match=r"gone\.xml names the image .* is in another"):
        read_dataset(Data(str(tmp_path)), "all")


@pytest.mark.parametrize(
    ("label", "image"),
    [
        ("labels/a.txt", "images/a.jpg"),
        ("boxes of mine/a.txt", "pictures of mine/a.jpg"),
        ("boxes of mine/1/a.txt", "pictures of mine/1/a.jpg"),
        ("labels/a.txt", "images/day 1/a.jpg"),  # no other image has the name
        ("labels/day 1/a.txt", "images/a.jpg"),
        ("labels/train/a.txt", "images/train2017/a.jpg"),
        ("train/labels/a.txt", "train/images/a.jpg"),
        ("a.txt", "pictures/a.jpg"),
    ],
)
def test_labels_in_folders_of_any_name(label: str, image: str, tmp_path: Path) -> None:
    images(tmp_path, image, "images/other.jpg")
    assert of(tmp_path, label) == image


def test_the_same_name_in_several_folders(tmp_path: Path) -> None:
    images(tmp_path, "images/a.jpg", "images/1/a.jpg", "images/2/a.jpg")
    assert of(tmp_path, "labels/a.txt") == "images/a.jpg"
    assert of(tmp_path, "labels/2/a.txt") == "images/2/a.jpg"
    assert of(tmp_path, "labels/3/a.txt") is None


@pytest.mark.parametrize(
    ("name", "image"),
    [
        (r"..\..\label-studio\media\upload\4\a.jpg", "images/a.jpg"),
        (r"images\1/a.jpg", "images/a.jpg"),
        (r"..\label\a.jpg", "a.jpg"),
        ("my%20a.jpg", "images/my a.jpg"),
        ("/home/me/darknet/data/obj/train/a.jpg", "obj/train/a.jpg"),
        (r"C:\Users\me\fruit\images\day 1\a.jpg", "images/day 1/a.jpg"),
        ("http://localhost:8080/data/upload/4/my%20a.jpg", "images/my a.jpg"),
        ("/home/me/pictures/a.jpg", "export/images/a.jpg"),
        ("my set/images/a.jpg", "images/a.jpg"),  # from the folder above
        ("sets/my set/a.jpg", "a.jpg"),
    ],
)
def test_names_of_another_place(name: str, image: str, tmp_path: Path) -> None:
    root = tmp_path / "sets" / "my set"
    images(root, image)
    folder = DataFolder(root)
    assert folder.image_named(name, "x", Path("x.json")).as_posix() == image
    assert list(folder.guessed) == [("x", name)]


def test_names_seen_from_the_file(tmp_path: Path) -> None:
    images(tmp_path, "images/a.jpg", "old/images/a.jpg")
    write(tmp_path / "labels/x.json", "{}")
    folder = DataFolder(tmp_path)
    near = Path("labels/x.json")
    assert folder.image_named("../images/a.jpg", "x", near) == Path("images/a.jpg")
    assert not folder.guessed
    # The longest end of the path that fits decides.
    found = folder.image_named("/home/me/old/images/a.jpg", "x", near)
    assert found == Path("old/images/a.jpg")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/home/me/video1/0002.jpg", "is an absolute path"),  # the folder contradicts video2
        ("video1/0002.jpg", r"is not below .*; there is .*video2/0002\.jpg"),
        ("../../outside/a.jpg", "may belong to"),
        ("../secret.jpg", "leaves its folder"),
        ("", "is empty"),
    ],
)
def test_names_that_are_refused(name: str, message: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    images(root, "video2/0002.jpg", "images/a.jpg", "image/a.jpg", "video1/0001.jpg")
    images(tmp_path, "secret.jpg")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        DataFolder(root).image_named(name, "x", Path("x.json"))


@pytest.mark.parametrize(
    ("name", "there", "message"),
    [
        ("img_1.jpg", "IMG_1.JPG", r"IMG_1\.JPG has other capitals, or letters of another Unicode"),
        ("\u00e4.jpg", "a\u0308.jpg", r"a\u0308\.jpg has other capitals, or letters of another"),
        ("a.heic", "a.HEIC", r"a\.HEIC is of a format that is not read: save it as JPEG or PNG"),
    ],
)
def test_an_image_of_nearly_the_name(name: str, there: str, message: str, tmp_path: Path) -> None:
    images(tmp_path, "images/other.jpg")
    (tmp_path / "images" / "other.jpg").rename(tmp_path / "images" / there)
    with pytest.raises(FileNotFoundError, match=message):
        DataFolder(tmp_path).image_named(name, "x", Path("x.json"))
    write(tmp_path / "labels" / Path(name).with_suffix(".txt"), LINE)
    write(tmp_path / "classes.txt", "cat\n")
    with pytest.raises(FileNotFoundError, match=rf"no image of the labels .*{message}"):
        read_dataset(Data(str(tmp_path)), "all")


def test_masks_are_hidden_beside_their_images_only(tmp_path: Path) -> None:
    images(tmp_path, "segmentation-2/a.jpg", "SegmentationClass/b.png", "segmentation/c.jpg")
    images(tmp_path, "JPEGImages/b.jpg")
    found = {path.as_posix() for path in DataFolder(tmp_path).images}
    assert found == {"JPEGImages/b.jpg", "segmentation-2/a.jpg", "segmentation/c.jpg"}
