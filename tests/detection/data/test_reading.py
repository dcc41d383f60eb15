"""One function for every format: the same records, one log line of what was found, splits."""

import logging
from pathlib import Path

import numpy as np
import pytest
from made_formats import CLASSES, WRITERS, draw, write, write_xml
from numpy.testing import assert_array_equal
from paths import ROOT

from detection.data import assembly
from detection.data.annotations import CLIPPED, DROPPED, MOSTLY_OUTSIDE
from detection.data.reading import read_dataset
from detection.data.records import Dataset
from detection.settings.data import Data

OWN_IMAGES = ROOT.parent / "shared/own_images"


def ids(dataset: Dataset) -> list[str]:
    return [record.image_id for record in dataset.records]


def said(caplog: pytest.LogCaptureFixture) -> str:
    (line,) = [each.message for each in caplog.records if each.levelno == logging.INFO]
    return line


@pytest.mark.parametrize("form", WRITERS)
def test_five_formats_give_the_same_records(
    form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The records have the names, sizes and boxes of the synthetic images."""
    drawn = sorted(draw(40), key=lambda each: each.name)
    WRITERS[form](tmp_path, drawn)
    caplog.set_level(logging.INFO)
    data = Data(str(tmp_path), unlabelled="background")  # CSV names no image without objects
    dataset = read_dataset(data, "all")
    assert dataset.classes == CLASSES
    assert not dataset.repairs
    assert sorted(ids(dataset)) == [each.name for each in drawn]
    records = {record.image_id: record for record in dataset.records}
    for each in drawn:
        record = records[each.name]
        assert record.size == each.size
        assert record.boxes.dtype == np.float32
        assert_array_equal(record.boxes, np.reshape([box for _, box in each.objects], (-1, 4)))
        assert [CLASSES[label] for label in record.labels] == [name for name, _ in each.objects]
        assert not record.difficult.any()
        assert record.path.is_file()
    words = {"voc": "VOC's layout", "xml": "VOC's XML", "coco": "JSON", "yolo": "YOLO"}
    assert words.get(form, "CSV") in said(caplog)


@pytest.mark.parametrize("form", [form for form in WRITERS if form != "voc"])
def test_a_format_that_is_named(form: str, tmp_path: Path) -> None:
    WRITERS[form](tmp_path, draw(3))
    assert len(read_dataset(Data(str(tmp_path), format=form), "all").records)
    other = "csv" if form != "csv" else "xml"
    with pytest.raises((ValueError, FileNotFoundError), match="no labelled image"):
        read_dataset(Data(str(tmp_path), format=other), "all")


def test_two_readings(tmp_path: Path) -> None:
    drawn = draw(4)
    WRITERS["coco"](tmp_path, drawn)
    WRITERS["csv"](tmp_path, drawn)
    with pytest.raises(ValueError, match=r"can be read as COCO's JSON \(annotations\.json\) or a"):
        read_dataset(Data(str(tmp_path)), "train")
    with pytest.raises(ValueError, match=r"by --data\.format coco or --data\.format csv$"):
        read_dataset(Data(str(tmp_path)), "train")
    assert len(read_dataset(Data(str(tmp_path), format="coco"), "all").records) == 4


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "holds neither Annotations nor VOC2007"),
        ("a.json", '{"shapes": [], "imagePath": "a.jpg"}', r"LabelMe's JSON \(a\.json\); export"),
        ("a.json", '{"_via_settings": {}}', r"VIA's JSON \(a\.json\); export it as COCO, YOLO or"),
        ("a.json", '{"a.jpg1": {"regions": [{"shape_attributes": {}}]}}', "VIA's JSON"),
        (
            "a.json",
            '[{"image": "a.jpg", "annotations": [{"label": "x", "coordinates": {"x": 1}}]}]',
            "CreateML's JSON",
        ),
        ("a.csv", "filename,file_size,region_count,region_shape_attributes\n", "VIA's CSV"),
        ("a.csv", "dog,48,240,195,371,a.jpg,500,375\n", r"makesense\.ai's CSV \(a\.csv\); export"),
        ("a.csv", "label_name,bbox_x,bbox_y,bbox_width\n", r"makesense\.ai's CSV"),
        (
            "a.json",
            '[{"annotations": [{"result": [{"value": {"rectanglelabels": ["x"]}}]}]}]',
            r"Label Studio's JSON \(a\.json\); export it as COCO, YOLO or Pascal VOC",
        ),
        ("a.json", '[{"image": "a.jpg", "label": [{"rectanglelabels": ["x"]}]}]', "Label Studio's"),
        ("a.json", '{"objects": [{"classTitle": "x", "points": {}}]}', "Supervisely's JSON"),
        ("a.json", '{"assets": {"1": {"regions": [{"boundingBox": {}}]}}}', "VoTT's JSON"),
        ("a.csv", "path,label,x1,y1,x2,y2\n", "CSV with the columns filename, class, xmin, ymin"),
        ("a.csv", "name,1,2\n", "holds neither Annotations nor VOC2007"),
        ("a.xml", "<annotations><version>1.1</version></annotations>", "CVAT's own XML"),
        ("mine/ImageSets/Main/train.txt", "a\n", r"such as .*mine"),
    ],
)
def test_nothing_that_is_read(name: str, content: str, message: str, tmp_path: Path) -> None:
    write(tmp_path / name, content)
    (tmp_path / "mine/Annotations").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=message):
        read_dataset(Data(str(tmp_path)), "train")


def test_images_without_labels(tmp_path: Path) -> None:
    WRITERS["csv"](tmp_path, draw(4))
    (tmp_path / "labels.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"images below it \(4\) have no labels"):
        read_dataset(Data(str(tmp_path)), "train")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"does not exist; .*get_data\.py voc07"):
        read_dataset(Data(str(tmp_path / "no")), "train")
    write(tmp_path / "labels.json", "{}")
    with pytest.raises(FileNotFoundError, match=r"labels\.json is a file; give the folder of"):
        read_dataset(Data(str(tmp_path / "labels.json")), "train")


@pytest.mark.parametrize("form", WRITERS)
def test_images_are_not_opened_for_their_size(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only YOLO's format needs them opened, as it gives no sizes."""
    WRITERS[form](tmp_path, draw(4)[:3])
    whole = read_dataset(Data(str(tmp_path)), "all")
    opened: list[Path] = []
    for name in ("image_size", "cut_short"):
        measured = getattr(assembly, name)
        monkeypatch.setattr(
            assembly, name, lambda path, to=measured: opened.append(path) or to(path)
        )
    found = read_dataset(Data(str(tmp_path)), "all", images=False)
    assert len(opened) == (3 if form == "yolo" else 0)
    for one, other in zip(found.records, whole.records, strict=True):
        assert one.size == other.size
        assert_array_equal(one.boxes, other.boxes)


@pytest.mark.parametrize("form", [form for form in WRITERS if form != "voc"])
def test_a_run_among_the_data_is_passed_over(form: str, tmp_path: Path) -> None:
    drawn = draw(6)
    WRITERS[form](tmp_path, drawn)
    before = ids(read_dataset(Data(str(tmp_path)), "all"))
    run = tmp_path / "runs" / "mine"
    for name in ("config.yaml", "metrics.jsonl", "lists/train.txt", "test/results.json"):
        write(run / name, "names: [ball]" if name == "config.yaml" else "{}")
    drawn[0].save(run / "test" / "images")
    assert ids(read_dataset(Data(str(tmp_path)), "all")) == before
    # The folder that is named as the data is read, even if it looks like a run.
    for name in ("config.yaml", "metrics.jsonl"):
        write(tmp_path / name, "")
    assert ids(read_dataset(Data(str(tmp_path)), "all")) == before


def test_unlabelled_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    drawn = draw(6)
    write_xml(tmp_path, drawn[:4])
    for each in drawn[4:]:
        each.save(tmp_path / "images")
    caplog.set_level(logging.INFO)
    assert len(read_dataset(Data(str(tmp_path)), "all").records) == 4
    assert "4 labelled images, 2 unlabelled left out;" in said(caplog)
    caplog.clear()
    empty = read_dataset(Data(str(tmp_path), unlabelled="background"), "all").records
    assert sorted(len(record.boxes) == 0 for record in empty) == [False] * 4 + [True] * 2
    assert "2 unlabelled taken as empty;" in said(caplog)


def test_names_that_clash(tmp_path: Path) -> None:
    (one,) = draw(2)[:1]
    for folder in ("a", "b"):
        write_xml(tmp_path / folder, [one])
    assert len(read_dataset(Data(str(tmp_path)), "all").records) == 2
    for folder in ("train_a", "train_b"):
        write_xml(tmp_path / folder, [one])
    with pytest.raises(ValueError, match=r"would both have the id 'b00\.rf\.1'; rename one"):
        read_dataset(Data(str(tmp_path)), "all")


@pytest.mark.parametrize("form", WRITERS)
def test_the_repairs_of_boxes_are_shared(form: str, tmp_path: Path) -> None:
    """Faulty boxes are repaired in every format."""
    (one,) = draw(2)[:1]
    height, width = one.size
    wrong = [("ball", [width - 4, 2, width + 2, 10]), ("leaf", [3, 8, 9, height + 4])]
    if form != "yolo":  # a centre outside the image is not a share from 0 to 1
        wrong += [("star", [width - 1, 2, width + 7, 10]), ("star", [-9, -9, -2, -2])]
    one.objects[:] = [("ball", [2, 2, 20, 30]), *wrong]
    WRITERS[form](tmp_path, [one])
    dataset = read_dataset(Data(str(tmp_path)), "all")
    boxes = [[2, 2, 20, 30], [width - 4, 2, width, 10], [3, 8, 9, height]]
    assert dataset.records[0].boxes.tolist() == boxes
    dropped = {} if form == "yolo" else {MOSTLY_OUTSIDE: 1, DROPPED: 1}
    assert dataset.repairs == {CLIPPED: 2, **dropped}


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "images", "boxes"), [("raccoon", 200, 217), ("kangaroo", 164, 266)]
)
def test_sets_as_people_have_them(name: str, images: int, boxes: int, tmp_path: Path) -> None:
    if not (OWN_IMAGES / name).is_dir():
        pytest.skip("no ../shared/own_images")
    data = Data(str(OWN_IMAGES / name))
    dataset = read_dataset(data, "all")
    assert dataset.classes == (name,)
    assert len(dataset.records) == images
    assert sum(len(record.boxes) for record in dataset.records) == boxes
    assert not dataset.unreadable
    # The test of the data set's README has every fifth image by name.
    names = sorted(ids(dataset))
    write(tmp_path / "test.txt", "".join(f"{each}\n" for each in names[4::5]))
    listed = read_dataset(Data(data.root, lists=str(tmp_path)), "test")
    assert ids(listed) == names[4::5]
