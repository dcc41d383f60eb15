"""Every invalid file gives an error that names it and has a remedy."""

from pathlib import Path

import pytest
from made_formats import Drawn, draw, write, write_csv, write_xml, write_yolo

from detection.data.reading import read_dataset
from detection.data.records import Dataset
from detection.settings.data import Data


@pytest.fixture
def drawn() -> list[Drawn]:
    return draw(4)


def read(root: Path) -> Dataset:
    return read_dataset(Data(str(root)), "all")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("3 0.5 0.5 0.1 0.1", r"has the class 3, but .*data\.yaml names 3, of which the last is 2"),
        ("dog 0.5 0.5 0.1 0.1", r"line 2 has 'dog' for a field; expected a number"),
        ("0.5 0.5 0.5 0.1 0.1", r"line 2 begins with 0\.5; expected a class's number"),
        ("-1 0.5 0.5 0.1 0.1", r"line 2 begins with -1; expected a class's number"),
        ("0 30 20 10 10", r"line 2 has 30; expected shares .* from 0 to 1: divide pixels by"),
        ("0 0.5 0.5 0.1 nan", r"line 2 has 'nan' for a field"),
        (
            "0 0.5 0.5 0.1",
            r"line 2 has 3 numbers after its class; expected the 4 of a box, or x and",
        ),
        (
            "0 0.5 0.5 0.1 0.1 0.9",
            r"line 2 has 5 numbers after its class; .*a label has no confidence",
        ),
    ],
)
def test_yolo(line: str, message: str, drawn: list[Drawn], tmp_path: Path) -> None:
    write_yolo(tmp_path, drawn)
    write(tmp_path / "labels" / f"{drawn[0].name}.txt", f"0 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(ValueError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [ball\n", r"data\.yaml is not valid YAML"),
        ("names: 3\n", r"data\.yaml has 3 for names; expected a list of classes"),
        ("names: {1: ball, 2: leaf}\n", r"names classes \[1, 2\]; expected 0, 1, 2"),
        ("names: {a: ball, 2: leaf}\n", r"expected 0, 1, 2"),
        ("names: [ball, ../x, star]\n", r"names the class '\.\./x', which leaves"),
        ("names: [ball]\n", r"has the class \d, but .*data\.yaml names 1"),
    ],
)
def test_yolo_classes(text: str, message: str, drawn: list[Drawn], tmp_path: Path) -> None:
    write_yolo(tmp_path, drawn)
    write(tmp_path / "data.yaml", text)
    with pytest.raises(ValueError, match=message):
        read(tmp_path)


def test_yolo_lists_of_classes(drawn: list[Drawn], tmp_path: Path) -> None:
    write_yolo(tmp_path, drawn)
    (tmp_path / "data.yaml").unlink()
    with pytest.raises(FileNotFoundError, match=r"no data\.yaml or classes\.txt that names their"):
        read(tmp_path)
    write(tmp_path / "classes.txt", "ball\nleaf\nstar\n")
    write(tmp_path / "labels/classes.txt", "ball\nleaf\nstar\n")
    assert read(tmp_path).classes == ("ball", "leaf", "star")
    write(tmp_path / "labels/classes.txt", "leaf\nball\nstar\n")
    with pytest.raises(ValueError, match=r"classes\.txt and .*classes\.txt name different classes"):
        read(tmp_path)


def test_yolo_labels_without_image(drawn: list[Drawn], tmp_path: Path) -> None:
    write_yolo(tmp_path, drawn)
    write(tmp_path / "labels/no.txt", "0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(FileNotFoundError, match=r"no image of the labels .*labels/no\.txt"):
        read(tmp_path)


def test_yolo_keypoints_follow_the_box(drawn: list[Drawn], tmp_path: Path) -> None:
    write_yolo(tmp_path, drawn[:1])
    height, width = drawn[0].size
    write(tmp_path / "labels" / f"{drawn[0].name}.txt", "0 0.5 0.5 0.5 0.5 0.1 0.1 0.2 0.2\n")
    names = "kpt_shape: [2, 2]\nnames: [ball, leaf, star]\n"
    write(tmp_path / "data.yaml", names)
    ((x1, y1, x2, y2),) = read(tmp_path).records[0].boxes.tolist()
    expected = (width / 4, height / 4, 3 * width / 4, 3 * height / 4)
    assert (x1, y1, x2, y2) == pytest.approx(expected, abs=0.01)


HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax"


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (HEADER.replace("xmax", "x"), "", r"has no column xmax; expected filename, class, xmin"),
        (HEADER.replace("class", "c"), "", r"has no column class; expected"),
        (HEADER.replace("filename", "f"), "", r"has no column filename; expected"),
        (HEADER, "no.jpg,60,40,ball,1,1,9,9", r"line 2 names the image 'no\.jpg', which is not"),
        (HEADER, "../b.jpg,60,40,ball,1,1,9,9", r"line 2 names the image .* leaves its folder"),
        (HEADER, "IMAGE,W,H,ball,1,1,9,", r"line 2 has '' for ymax; expected a number"),
        (HEADER, "IMAGE,W,H,ball,1,1,9", r"line 2 has None for ymax; expected a number"),
        (HEADER, "IMAGE,W,H,,1,1,9,9", r"line 2 names the class '', which is empty"),
        (HEADER, "IMAGE,W,9,ball,1,1,9,9", r"line 2 says height 9, .*; the boxes were drawn on"),
        (HEADER, "IMAGE,W,H,ball,0.1,0.1,0.9,0.9", r"relative coordinates .*; expected pixels"),
        (HEADER, "IMAGE,W,H,ball,1,1,9,9\nIMAGE,1,1,ball,1,1,9,9", r"line 2 and .* line 3 give"),
        (HEADER, "IMAGE,W,H,ball,11,5,6,2,20,1,15,3", r"line 2 has more fields than the header"),
        (HEADER, "IMAGE,W,H,a, b,1,1,9,9", r"line 2 has more fields than the header"),
        (HEADER, "", r"has no labelled image: a CSV table"),
    ],
)
def test_csv(header: str, row: str, message: str, drawn: list[Drawn], tmp_path: Path) -> None:
    write_csv(tmp_path, drawn)
    height, width = drawn[0].size
    row = row.replace("IMAGE", f"{drawn[0].name}.jpg").replace("W", str(width))
    write(tmp_path / "labels.csv", f"{header}\n{row.replace('H', str(height))}\n")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read(tmp_path)


def test_csv_of_a_quotation_mark_that_is_not_closed(drawn: list[Drawn], tmp_path: Path) -> None:
    write_csv(tmp_path, drawn)
    write(tmp_path / "labels.csv", f'{HEADER}\n"{"a" * 200_000}\n')
    with pytest.raises(
        ValueError, match=r"labels\.csv line \d is not a row of a table \(field larger"
    ):
        read(tmp_path)


def test_csv_relative_in_most_rows(drawn: list[Drawn], tmp_path: Path) -> None:
    write_csv(tmp_path, drawn)
    height, width = drawn[0].size
    row = f"{drawn[0].name}.jpg,{width},{height},ball"
    rows = [f"{row},1,1,9,9", *[f"{row},0.1,0.1,0.9,1.005"] * 2]
    write(tmp_path / "labels.csv", "\n".join([HEADER, *rows]))
    with pytest.raises(ValueError, match=r"labels\.csv has corners .* relative coordinates"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("no.xml", "<annotation/>", r"no\.xml names the image 'no\.jpg', which is not below"),
        ("x.xml", "<annotation><filename>n.jpg</filename></annotation>", "names the image 'n.jpg'"),
        ("x.xml", "<annotation><filename>../n.jpg</filename></annotation>", "leaves its folder"),
        ("x.xml", "<annotation>", r"x\.xml is not valid XML"),
        ("x.xml", "<html/>", r"x\.xml begins with <html>; expected VOC's <annotation>"),
    ],
)
def test_xml(name: str, content: str, message: str, drawn: list[Drawn], tmp_path: Path) -> None:
    write_xml(tmp_path, drawn)
    write(tmp_path / "my labels" / name, content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read(tmp_path)


def test_missing_images_are_counted(drawn: list[Drawn], tmp_path: Path) -> None:
    write_xml(tmp_path, drawn)
    for name in ("no1", "no2"):
        write(tmp_path / f"my labels/{name}.xml", "<annotation/>")
    expected = r"'no1\.jpg', which .* remove its labels \(XML files without their image: 2\)$"
    with pytest.raises(FileNotFoundError, match=expected):
        read(tmp_path)


def test_an_xml_of_something_else_before_the_annotations(
    drawn: list[Drawn], tmp_path: Path
) -> None:
    write_xml(tmp_path, drawn)
    write(tmp_path / "a settings.xml", "<settings/>")
    with pytest.raises(ValueError, match=r"a settings\.xml begins with <settings>; expected VOC's"):
        read(tmp_path)


def test_an_image_of_two_xml_files(drawn: list[Drawn], tmp_path: Path) -> None:
    write_xml(tmp_path, drawn)
    source = tmp_path / "my labels" / f"{drawn[0].name}.xml"
    write(tmp_path / "backup" / source.name, source.read_text())
    with pytest.raises(ValueError, match=r"is annotated twice, by .*backup.* and by .*my labels"):
        read(tmp_path)


def test_an_unreadable_image_is_left_out(drawn: list[Drawn], tmp_path: Path) -> None:
    write_yolo(tmp_path, drawn)
    (tmp_path / "images" / f"{drawn[0].name}.jpg").write_bytes(b"no image")
    dataset = read(tmp_path)
    assert list(dataset.unreadable) == [drawn[0].name]
    assert len(dataset.records) == 3
    with pytest.raises(ValueError, match="is not a readable image"):
        read_dataset(Data(str(tmp_path)), "all", strict=True)
