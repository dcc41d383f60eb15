"""One set of images and boxes in each supported format."""

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from made_voc import object_xml
from PIL import Image

CLASSES = ("ball", "leaf", "star")


@dataclass(frozen=True)
class Drawn:
    """An image and its objects: the class name and half-open box, in whole pixels, of each."""

    name: str
    pixels: np.ndarray
    objects: list[tuple[str, list[int]]]

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[:2]

    def save(self, folder: Path) -> None:
        path = folder / f"{self.name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(self.pixels).save(path, quality=30)


def draw(count: int = 40, seed: int = 0) -> list[Drawn]:
    """Return images of noise with boxes; the first has every class, the last has no object."""
    rng = np.random.default_rng(seed)
    drawn = []
    for place in range(count):
        height, width = rng.integers(40, 90, 2).tolist()
        objects = []
        number = len(CLASSES) if place == 0 else int(rng.integers(1, 4))
        for each in range(0 if place == count - 1 else number):
            x, y = np.sort(rng.permutation(width + 1)[:2]), np.sort(rng.permutation(height + 1)[:2])
            name = CLASSES[each if place == 0 else int(rng.integers(len(CLASSES)))]
            objects.append((name, [int(v) for v in (x[0], y[0], x[1], y[1])]))
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        name = f"day {place % 3}/a.{place:02}" if place % 2 else f"b{place:02}.rf.1"
        drawn.append(Drawn(name, pixels, objects))
    return drawn


def xml_of(drawn: Drawn) -> str:
    height, width = drawn.size
    objects = "".join(
        object_xml(name, (box[0] + 1, box[1] + 1, *box[2:])) for name, box in drawn.objects
    )
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation>{size}{objects}</annotation>"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_voc(root: Path, images: list[Drawn]) -> None:
    for each in images:
        each.save(root / "JPEGImages")
        write(root / "Annotations" / f"{each.name}.xml", xml_of(each))
    write(root / "ImageSets/Main/all.txt", "".join(f"{each.name}\n" for each in images))


def write_xml(root: Path, images: list[Drawn]) -> None:
    for each in images:
        each.save(root / "images")
        write(root / "my labels" / f"{each.name}.xml", xml_of(each))


def coco_of(images: list[Drawn]) -> dict:
    objects = [(place, one) for place, each in enumerate(images) for one in each.objects]
    return {
        "images": [
            {
                "id": 7 * place + 3,
                "file_name": f"{each.name}.jpg",
                "height": each.size[0],
                "width": each.size[1],
            }
            for place, each in enumerate(images)
        ],
        "annotations": [
            {
                "id": number,
                "image_id": 7 * place + 3,
                "category_id": 10 * CLASSES.index(name) + 1,
                "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                "iscrowd": 0,
            }
            for number, (place, (name, box)) in enumerate(objects)
        ],
        "categories": [{"id": 10 * k + 1, "name": name} for k, name in enumerate(CLASSES)],
    }


def write_coco(root: Path, images: list[Drawn]) -> None:
    for each in images:
        each.save(root / "images")
    write(root / "annotations.json", json.dumps(coco_of(images)))


def yolo_line(drawn: Drawn, name: str, box: list[int]) -> str:
    height, width = drawn.size
    x, y = (box[0] + box[2]) / 2 / width, (box[1] + box[3]) / 2 / height
    w, h = (box[2] - box[0]) / width, (box[3] - box[1]) / height
    return f"{CLASSES.index(name)} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n"


def write_yolo(root: Path, images: list[Drawn]) -> None:
    for each in images:
        each.save(root / "images")
        lines = "".join(yolo_line(each, *one) for one in each.objects)
        write(root / "labels" / f"{each.name}.txt", lines)
    write(root / "data.yaml", f"train: images\nval: images\nnc: 3\nnames: {list(CLASSES)}\n")


def write_csv(root: Path, images: list[Drawn]) -> None:
    for each in images:
        each.save(root / "images")
    with (root / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"])
        for each in images:
            for name, box in each.objects:
                corners = [box[0] + 1, box[1] + 1, *box[2:]]
                table.writerow([f"{each.name}.jpg", each.size[1], each.size[0], name, *corners])


WRITERS: Mapping[str, Callable[[Path, list[Drawn]], None]] = {
    "voc": write_voc,
    "xml": write_xml,
    "coco": write_coco,
    "yolo": write_yolo,
    "csv": write_csv,
}
