"""Small exports of COCO's JSON as tools write them, remade by hand from their formats."""

import json
from pathlib import Path

import pytest
from made_exports import BOX, HEIGHT, WIDTH, found, images, read
from made_formats import write

CVAT_COCO = {
    "licenses": [{"name": "", "id": 0, "url": ""}],
    "info": {"contributor": "", "date_created": "", "description": "", "url": "", "version": ""},
    "categories": [
        {"id": 1, "name": "cat", "supercategory": ""},
        {"id": 2, "name": "dog", "supercategory": ""},
    ],
    "images": [
        {
            "id": 1,
            "width": WIDTH,
            "height": HEIGHT,
            "file_name": "day 2/a.jpg",
            "license": 0,
            "flickr_url": "",
            "coco_url": "",
            "date_captured": 0,
        }
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 2,
            "segmentation": [[10.0, 5.0, 20.0, 5.0, 20.0, 15.0]],
            "area": 50.0,
            "bbox": [10.0, 5.0, 10.0, 10.0],
            "iscrowd": 0,
            "attributes": {"occluded": False, "rotation": 0.0},
        },
        {
            "id": 2,
            "image_id": 1,
            "category_id": 1,
            "segmentation": {"counts": [0, 80, 2320], "size": [HEIGHT, WIDTH]},
            "area": 80.0,
            "bbox": [0.0, 0.0, 2.0, 40.0],
            "iscrowd": 1,
            "attributes": {"occluded": False},
        },
    ],
}


def test_cvat_coco(tmp_path: Path) -> None:
    images(tmp_path, "images/default/day 2/a.jpg")
    write(tmp_path / "annotations/instances_default.json", json.dumps(CVAT_COCO))
    dataset = read(tmp_path)
    assert found(dataset) == {"default/day 2/a": [("dog", BOX), ("cat", [0, 0, 2, 40])]}
    assert dataset.records[0].difficult.tolist() == [False, True]  # the second is a crowd
    # Where boxes are missing, the polygon and the mask give them.
    bare = json.loads(json.dumps(CVAT_COCO))
    for each in bare["annotations"]:
        del each["bbox"]
    write(tmp_path / "annotations/instances_default.json", json.dumps(bare))
    assert found(read(tmp_path)) == found(dataset)


@pytest.mark.parametrize("slash", ["/", "\\"])
def test_label_studio_coco(slash: str, tmp_path: Path) -> None:
    images(tmp_path, "images/0a1b2c3d-street.jpg")
    content = {
        "images": [
            {
                "width": WIDTH,
                "height": HEIGHT,
                "id": 0,
                "file_name": f"images{slash}0a1b2c3d-street.jpg",
            }
        ],
        "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
        "annotations": [
            {
                "id": 0,
                "image_id": 0,
                "category_id": 1,
                "segmentation": [],
                "bbox": [10.0, 5.0, 10.000000000000002, 10.0],
                "ignore": 0,
                "iscrowd": 0,
                "area": 100.0,
            }
        ],
        "info": {"year": 2026, "version": "1.0", "contributor": "Label Studio"},
    }
    write(tmp_path / "result.json", json.dumps(content, indent=2))
    assert found(read(tmp_path)) == {"0a1b2c3d-street": [("dog", BOX)]}


def test_roboflow_coco(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        name = f"street_jpg.rf.{split}.jpg"
        images(tmp_path, f"{split}/{name}")
        content = {
            "info": {"year": "2026", "contributor": ""},
            "licenses": [{"id": 1, "url": "", "name": "Public Domain"}],
            "categories": [
                {"id": 0, "name": "animals", "supercategory": "none"},
                {"id": 1, "name": "dog", "supercategory": "animals"},
            ],
            "images": [
                {"id": 0, "license": 1, "file_name": name, "height": HEIGHT, "width": WIDTH}
            ],
            "annotations": [
                {
                    "id": 0,
                    "image_id": 0,
                    "category_id": 1,
                    "bbox": [10, 5, 10, 10],
                    "area": 100,
                    "segmentation": [],
                    "iscrowd": 0,
                }
            ],
        }
        write(tmp_path / split / "_annotations.coco.json", json.dumps(content))
    assert found(read(tmp_path, "trainval")) == {"street_jpg.rf.train": [("dog", BOX)]}
    assert found(read(tmp_path, "test")) == {"street_jpg.rf.valid": [("dog", BOX)]}
