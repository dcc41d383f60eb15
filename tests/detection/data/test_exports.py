"""Small exports as XML, YOLO's text and CSV as tools write them, remade by hand."""

import json
from pathlib import Path

import pytest
from made_exports import BOX, HEIGHT, WIDTH, found, images, read
from made_formats import write

LABELIMG = f"""<annotation>
\t<folder>desktop</folder>
\t<filename>{{name}}</filename>
\t<path>C:\\Users\\me\\Desktop\\{{name}}</path>
\t<source>
\t\t<database>Unknown</database>
\t</source>
\t<size>
\t\t<width>{WIDTH}</width>
\t\t<height>{HEIGHT}</height>
\t\t<depth>3</depth>
\t</size>
\t<segmented>0</segmented>
\t<object>
\t\t<name>dog</name>
\t\t<pose>Unspecified</pose>
\t\t<truncated>0</truncated>
\t\t<difficult>0</difficult>
\t\t<bndbox>
\t\t\t<xmin>11</xmin>
\t\t\t<ymin>6</ymin>
\t\t\t<xmax>20</xmax>
\t\t\t<ymax>15</ymax>
\t\t</bndbox>
\t</object>
</annotation>
"""


@pytest.mark.parametrize(
    ("image", "xml"),
    [
        ("a.jpg", "a.xml"),
        ("images/a.png", "annots/a.xml"),
        ("images/day 2/a.jpg", "annots/day 2/a.xml"),
        ("pictures/IMG_1.JPG", "boxes/renamed.xml"),  # found by its <filename>
    ],
)
def test_labelimg(image: str, xml: str, tmp_path: Path) -> None:
    images(tmp_path, image, "unlabelled.jpg")
    write(tmp_path / xml, LABELIMG.format(name=Path(image).name))
    write(tmp_path / "predefined_classes.txt", "dog\n")
    (boxes,) = found(read(tmp_path)).values()
    assert boxes == [("dog", BOX)]


def test_labelimg_names_of_two_folders(tmp_path: Path) -> None:
    """Two folders of images have the same names; each has its own folder of XML."""
    for day in ("1", "2"):
        images(tmp_path, f"images/{day}/a.jpg")
        write(tmp_path / f"annots/{day}/a.xml", LABELIMG.format(name="a.jpg"))
    assert set(found(read(tmp_path))) == {"1/a", "2/a"}
    images(tmp_path, "old/a.jpg")
    write(tmp_path / "more/a.xml", LABELIMG.format(name="a.jpg"))
    with pytest.raises(ValueError, match=r"more/a\.xml may belong to .*a\.jpg or .*a\.jpg; rename"):
        read(tmp_path)


def test_labelimg_yolo(tmp_path: Path) -> None:
    images(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    write(tmp_path / "classes.txt", "cat\ndog\n")
    write(tmp_path / "a.txt", "1 0.250000 0.250000 0.166667 0.250000\n")
    write(tmp_path / "b.txt", "")
    assert found(read(tmp_path)) == {"a": [("dog", BOX)], "b": []}


def test_cvat_yolo(tmp_path: Path) -> None:
    images(tmp_path, "obj_train_data/a.jpg", "obj_valid_data/b.jpg")
    write(tmp_path / "obj.names", "cat\ndog\n")
    write(tmp_path / "obj.data", "classes = 2\nnames = data/obj.names\ntrain = data/train.txt\n")
    for split, name in (("train", "a"), ("valid", "b")):
        write(tmp_path / f"{split}.txt", f"data/obj_{split}_data/{name}.jpg\n")
        line = "1 0.250000 0.250000 0.166667 0.250000\n"
        write(tmp_path / f"obj_{split}_data/{name}.txt", line)
    assert found(read(tmp_path, "trainval")) == {"a": [("dog", BOX)]}
    assert found(read(tmp_path, "test")) == {"b": [("dog", BOX)]}


def test_label_studio_yolo(tmp_path: Path) -> None:
    images(tmp_path, "images/0a1b2c3d-street.jpg")
    notes = {"categories": [{"id": 0, "name": "cat"}], "info": {"contributor": "Label Studio"}}
    write(tmp_path / "notes.json", json.dumps(notes))
    write(tmp_path / "classes.txt", "cat\ndog\n")
    line = "1 0.25 0.25 0.16666666666666669 0.24999999999999994\n"
    write(tmp_path / "labels/0a1b2c3d-street.txt", line)
    assert found(read(tmp_path)) == {"0a1b2c3d-street": [("dog", BOX)]}


ROBOFLOW_YAML = """train: ../train/images
val: ../valid/images
test: ../test/images

nc: 2
names: ['cat', 'dog']

roboflow:
  workspace: me
  version: 3
"""


def test_roboflow_yolo(tmp_path: Path) -> None:
    """One of the three splits has no images; one label is a polygon; names have dots."""
    write(tmp_path / "data.yaml", ROBOFLOW_YAML)
    write(tmp_path / "README.dataset.txt", "# street > 2026\n")
    write(tmp_path / "README.roboflow.txt", "\nstreet - v3\n")
    name = "street_jpg.rf.0f3e9a"
    images(tmp_path, f"train/images/{name}.jpg", f"valid/images/{name}.jpg")
    write(tmp_path / f"train/labels/{name}.txt", "1 0.25 0.25 0.16666667 0.25\n")
    outline = "0 0.16666667 0.125 0.33333333 0.125 0.33333333 0.375\n"
    write(tmp_path / f"valid/labels/{name}.txt", outline)
    assert found(read(tmp_path, "trainval")) == {name: [("dog", BOX)]}
    assert found(read(tmp_path, "test")) == {name: [("cat", BOX)]}  # valid stands in for test


HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax"


def test_roboflow_csv(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        name = f"street_jpg.rf.{split}.jpg"
        images(tmp_path, f"{split}/{name}")
        row = f"{name},{WIDTH},{HEIGHT},dog,11,6,20,15"
        write(tmp_path / split / "_annotations.csv", f"{HEADER}\n{row}\n")
    assert found(read(tmp_path, "trainval")) == {"street_jpg.rf.train": [("dog", BOX)]}


def test_tensorflow_csv(tmp_path: Path) -> None:
    """Each split has a table; all images are in one folder, as tutorials' scripts leave them."""
    images(tmp_path, "images/a.jpg", "images/b.jpg")
    for split, name in (("train", "a"), ("test", "b")):
        row = f"{name}.jpg,{WIDTH},{HEIGHT},dog,11,6,20,15"
        write(tmp_path / f"data/{split}_labels.csv", f"{HEADER}\r\n{row}\r\n")
    assert set(found(read(tmp_path, "trainval"))) == {"a"}
    assert set(found(read(tmp_path, "test"))) == {"b"}


def test_vott_csv(tmp_path: Path) -> None:
    images(tmp_path, "vott-csv-export/a.jpg")
    table = '"image","xmin","ymin","xmax","ymax","label"\n"a.jpg",11.25,6,20,15.5,"dog"\n'
    write(tmp_path / "vott-csv-export/street-export.csv", table)
    (boxes,) = found(read(tmp_path)).values()
    assert boxes == [("dog", [10.25, 5, 20, 15.5])]


def test_a_table_saved_by_a_spreadsheet(tmp_path: Path) -> None:
    images(tmp_path, "a.jpg")
    text = f"{HEADER}\na.jpg,{WIDTH},{HEIGHT},dog,11,6,20,15\n".replace(",", ";")
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8-sig")
    assert found(read(tmp_path)) == {"a": [("dog", BOX)]}


def cvat_voc(root: Path, count: int = 10, **lists: list[int]) -> None:
    """Write CVAT's Pascal VOC with masks; without ``lists``, one list names all images."""
    for place in range(count):
        write(root / f"Annotations/day 2/{place}.xml", LABELIMG.format(name=f"{place}.jpg"))
        images(root, f"SegmentationClass/day 2/{place}.png")
    images(root, *(f"JPEGImages/day 2/{place}.jpg" for place in range(count)))
    for name, ids in (lists or {"default": list(range(count))}).items():
        write(root / f"ImageSets/Main/{name}.txt", "".join(f"day 2/{each}\n" for each in ids))


def test_cvat_voc_is_split_by_content(tmp_path: Path) -> None:
    cvat_voc(tmp_path)
    parts = [read(tmp_path, split, unlabelled="background") for split in ("trainval", "test")]
    assert [len(part.records) for part in parts] == [8, 2]
    assert sorted(each for part in parts for each in found(part)) == [
        f"day 2/{place}" for place in range(10)
    ]


def test_voc_with_train_and_val_only(tmp_path: Path) -> None:
    cvat_voc(tmp_path, train=[0, 1, 2], val=[3, 4])
    assert list(found(read(tmp_path, "trainval"))) == ["day 2/0", "day 2/1", "day 2/2"]
    assert list(found(read(tmp_path, "test"))) == ["day 2/3", "day 2/4"]
    assert len(read(tmp_path, "all").records) == 10


def test_voc_that_trained_on_val_is_not_tested_on_it(tmp_path: Path) -> None:
    cvat_voc(tmp_path, train=[0, 1, 2], val=[3, 4], trainval=[0, 1, 2, 3, 4])
    with pytest.raises(FileNotFoundError, match=r"no split 'test'.*splits there: train, trainval"):
        read(tmp_path, "test")
