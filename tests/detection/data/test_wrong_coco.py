"""Every invalid COCO JSON gives a clear error; every valid variant is read."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_formats import Drawn, coco_of, draw, write, write_coco

from detection.data.annotations import NO_AREA
from detection.data.reading import read_dataset
from detection.data.records import Dataset
from detection.settings.data import Data


@pytest.fixture
def drawn() -> list[Drawn]:
    return draw(4)


def read(root: Path) -> Dataset:
    return read_dataset(Data(str(root)), "all")


def one_object(content: dict, **changes: Any) -> None:
    content["annotations"][0].update(changes)


def one_image(content: dict, **changes: Any) -> None:
    content["images"][0].update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: one_image(c, file_name="no.jpg"), r"names the image 'no\.jpg', which is not be"),
        (lambda c: one_image(c, file_name="../b.jpg"), r"'\.\./b\.jpg', which leaves its folder"),
        (lambda c: one_image(c, file_name="/b00.rf.1.jpg"), "which is an absolute path"),
        (lambda c: one_image(c, file_name="b00.rf.1.png"), r"there is .*b00\.rf\.1\.jpg: write"),
        (lambda c: one_image(c, file_name="z/b00.rf.1.jpg"), r"there is .*b00\.rf\.1\.jpg: write"),
        (lambda c: one_image(c, height=9), r"image 'b00\.rf\.1\.jpg' says height 9, .*; the boxes"),
        (lambda c: one_image(c, height="x"), r"has 'x' for the image's size; expected a number"),
        (lambda c: one_image(c, id=10), r"has the image id 10 twice"),
        (lambda c: one_image(c, id="010"), r"image id '010', also written 10, twice"),
        (lambda c: one_image(c, id=[1]), r"has the image id \[1\] twice, or it is not an id"),
        (lambda c: c["images"].append(dict(c["images"][0], id=99)), "lists the image 'b00.* twice"),
        (lambda c: one_object(c, category_id=5), "annotation 0 has the category_id 5, which none"),
        (lambda c: one_object(c, image_id=99), "annotation 0 has the image_id 99, which none of"),
        (lambda c: one_object(c, bbox=[1, 2, 3]), r"has the bbox \[1, 2, 3\]; expected x, y, wid"),
        (lambda c: one_object(c, bbox=None), "expected x, y, width, height, or a segmentation"),
        (lambda c: one_object(c, bbox=[1, 2, "a", 3]), "has 'a' for a bbox's value; expected a"),
        (lambda c: one_object(c, bbox=[], segmentation=[[1, 2, 3]]), "neither polygons nor COCO's"),
        (lambda c: one_object(c, bbox=[], segmentation={"a": 1}), "neither polygons nor COCO's"),
        (
            lambda c: c["categories"][0].update(name="../x"),
            r"names the class '\.\./x', which leaves",
        ),
        (lambda c: one_image(c, id=True), r"has the image id True twice, or it is not an id"),
        (lambda c: one_object(c, image_id=[1]), r"has the image_id \[1\], which none of"),
        (lambda c: one_object(c, category_id={}), r"has the category_id \{\}, which none of"),
        (lambda c: one_object(c, iscrowd="2"), "has '2' for 'iscrowd'; expected 0 or 1"),
        (lambda c: one_object(c, ignore=[0]), r"has \[0\] for 'ignore'; expected 0 or 1"),
        (lambda c: one_object(c, bbox=[1, 2, 10**400, 3]), r"has 10{50,}\.\.\. for a bbox's value"),
        (lambda c: one_image(c, height=10**400), r"\.\.\. for the image's size; expected a number"),
        (
            lambda c: one_object(c, bbox=[], segmentation={"counts": "11", "size": [40]}),
            "neither polygons nor COCO's",
        ),
        (
            lambda c: one_object(c, bbox=[], segmentation={"counts": [0, 5, 95], "size": [10, 10]}),
            "COCO's mask .its size is not the image's",
        ),
        (
            lambda c: one_object(c, bbox=[], segmentation={"counts": 5}),
            "neither polygons nor COCO'",
        ),
        (lambda c: one_image(c, file_name=None), "names the image '', which is empty"),
        (lambda c: one_object(c, bbox=[1, 2, float("nan"), 3]), "has nan for a bbox's value"),
        (lambda c: one_object(c, score=0.5), "json holds detections and no labels, .*; add the fi"),
        (lambda c: c.update(annotations=5, info={"score": 1}), "has no list 'annotations' of obj"),
        (lambda c: c["categories"][0].update(name=None), "names the class '', which is empty"),
        (lambda c: c.update(images={}), "has no list 'images' of objects"),
        (lambda c: c.update(annotations=[]), "no object in the 4 annotation"),
    ],
)
def test_coco(
    change: Callable[[dict], None], message: str, drawn: list[Drawn], tmp_path: Path
) -> None:
    write_coco(tmp_path, drawn)
    content = coco_of(drawn)
    change(content)
    write(tmp_path / "annotations.json", json.dumps(content))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    ("image", "box", "message"),
    [
        (None, [0.1, 0.2, 0.5, 0.25], r"relative coordinates .*; expected pixels"),
        (3, [0.1, 0.2, 0.900001, 0.5], r"image 'b00\.rf\.1\.jpg' has .* relative coordinates"),
    ],
    ids=["of all images", "of one image among others"],
)
def test_coco_relative_boxes(
    image: int | None, box: list[float], message: str, drawn: list[Drawn], tmp_path: Path
) -> None:
    write_coco(tmp_path, drawn)
    content = coco_of(drawn)
    for each in content["annotations"]:
        if image in (None, each["image_id"]):
            each["bbox"] = box
    write(tmp_path / "annotations.json", json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read(tmp_path)


def test_coco_relative_boxes_but_for_one_in_each_image(drawn: list[Drawn], tmp_path: Path) -> None:
    write_coco(tmp_path, drawn)
    content = coco_of(drawn)
    some = [dict(each, bbox=[0.1, 0.2, 0.5, 0.5]) for each in content["annotations"]]
    content["annotations"] += [dict(each, id=100 + place) for place, each in enumerate(some * 2)]
    write(tmp_path / "annotations.json", json.dumps(content))
    with pytest.raises(
        ValueError, match=r"annotations\.json has corners .* between 0 and 1, which look"
    ):
        read(tmp_path)


def test_coco_nested_too_deep(drawn: list[Drawn], tmp_path: Path) -> None:
    write_coco(tmp_path, drawn)
    write(
        tmp_path / "annotations.json",
        '{"images": [], "annotations": [], "categories": ' + "[" * 10**5,
    )
    with pytest.raises(ValueError, match=r"annotations\.json is not valid JSON"):
        read(tmp_path)


def test_coco_flags_and_ids_however_written(drawn: list[Drawn], tmp_path: Path) -> None:
    write_coco(tmp_path, drawn)
    content = coco_of(drawn)
    expected = read(tmp_path)
    ways = ("0", 0, False, "false", None, 0.0)
    for place, each in enumerate(content["annotations"]):
        each["iscrowd"] = ways[place % len(ways)]
        each["image_id"] = float(each["image_id"]) if place % 2 else str(each["image_id"])
        each["category_id"] = f"{each['category_id']:0{1 + place % 3}}"
    write(tmp_path / "annotations.json", json.dumps(content))
    found = read(tmp_path)
    for one, other in zip(found.records, expected.records, strict=True):
        assert one.boxes.tolist() == other.boxes.tolist()
        assert not one.difficult.any()
    for place, each in enumerate(content["annotations"]):
        each["iscrowd"] = ("1", 1, True, "true")[place % 4]
    write(tmp_path / "annotations.json", json.dumps(content))
    assert all(record.difficult.all() for record in read(tmp_path).records)


@pytest.mark.parametrize("box", [[0, 0, 0, 0], [5.0, 5.0, 0.0, 7.0], None, []])
def test_coco_boxes_of_outlines(box: list | None, drawn: list[Drawn], tmp_path: Path) -> None:
    write_coco(tmp_path, drawn)
    content = coco_of(drawn)
    one_object(content, bbox=box, segmentation=[[2, 3, 12, 3, 12, 23]])
    write(tmp_path / "annotations.json", json.dumps(content))
    assert read(tmp_path).records[0].boxes[0].tolist() == [2, 3, 12, 23]


@pytest.mark.parametrize("counts", [[4, 3, 10000], "43ge5"])
def test_coco_masks_without_their_size(
    counts: list[int] | str, drawn: list[Drawn], tmp_path: Path
) -> None:
    """The image's size is used; the first column has four zeros, then three ones."""
    write_coco(tmp_path, drawn)
    content = coco_of(drawn)
    one_object(content, bbox=[], iscrowd=1, segmentation={"counts": counts})
    write(tmp_path / "annotations.json", json.dumps(content))
    record = read(tmp_path).records[0]
    assert record.boxes[0].tolist() == [0, 4, 1, 7]
    assert record.difficult.tolist() == [True, False, False]


def test_detections_are_no_labels(
    drawn: list[Drawn], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_coco(tmp_path, drawn)
    expected = read(tmp_path)
    content = coco_of(drawn)
    for each in content["annotations"]:
        each["score"] = 0.5
    write(tmp_path / "found.json", json.dumps(content))
    write(tmp_path / "results.json", json.dumps(content["annotations"]))
    found = read(tmp_path)
    assert "found.json holds detections and no labels, as its annotations have sc" in caplog.text
    assert [each.boxes.tolist() for each in found.records] == [
        each.boxes.tolist() for each in expected.records
    ]
    (tmp_path / "annotations.json").unlink()
    for name in ("found.json", "results.json"):
        with pytest.raises(ValueError, match=rf"{name} holds detections and no labels"):
            read(tmp_path)
        (tmp_path / name).unlink()
    for place, each in enumerate(content["annotations"]):
        each["score"] = (1, 1.0, None)[place % 3]  # some tools write such scores for labels
    write(tmp_path / "annotations.json", json.dumps(content))
    assert read(tmp_path).records[0].boxes.tolist() == expected.records[0].boxes.tolist()


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_coco_cut_off(share: float, drawn: list[Drawn], tmp_path: Path) -> None:
    write_coco(tmp_path, drawn)
    path = tmp_path / "annotations.json"
    text = path.read_text()
    path.write_text(text[: int(share * len(text))])
    with pytest.raises(
        ValueError, match=r"annotations\.json is not valid JSON .*; export it again"
    ):
        read(tmp_path)


def test_an_image_in_two_coco_files(drawn: list[Drawn], tmp_path: Path) -> None:
    write_coco(tmp_path, drawn)
    write(tmp_path / "more.json", json.dumps(coco_of(drawn[:1])))
    with pytest.raises(
        ValueError, match=r"is annotated twice, by .*annotations\.json.* and by .*mo"
    ):
        read(tmp_path)


def test_boxes_without_area(
    drawn: list[Drawn], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_coco(tmp_path, drawn)
    content = coco_of(drawn)
    one_object(content, bbox=[5, 5, 0, 9])
    write(tmp_path / "annotations.json", json.dumps(content))
    caplog.set_level(logging.WARNING)
    assert read(tmp_path).repairs == {NO_AREA: 1}
    named = [line for line in caplog.messages if line.startswith(NO_AREA)]
    assert named == [
        f"{NO_AREA}: 1 in all, first in {tmp_path}/annotations.json, image 'b00.rf.1.jpg'"
    ]
