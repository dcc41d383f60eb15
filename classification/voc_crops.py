"""Crops of objects from VOC's images, one folder per class: a data set for classifiers.

A folder has the crops of one call only, and a file that records their lists and settings. Crops
left over from other lists could put training images among the test images.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from classification.leaks import refuse_shared
from detection.data.records import Dataset, ImageRecord
from detection.data.voc import read_voc
from files.images import UnreadableImage, read_image
from files.names import content_key, file_part
from files.text import read_text
from files.writing import content_digest, save_text, write_atomic

VERSION = 1  # of the crops: raise it when the same objects give other images
NOTE = "crops.json"
# JPEG quality; high, because crops seldom begin at block borders and so are compressed again.
QUALITY = 95


def write_crops(
    root: str | Path, folder: Path, train_split: str, test_split: str, min_side: int = 48
) -> tuple[dict[str, int], dict[str, str]]:
    """Write ``folder/train/CLASS/IMAGE_NUMBER.jpg`` and ``val/...``, without difficult objects.

    A second call, for example after a kill, adds missing crops.

    Args:
        root: annotated images in VOC's layout.
        folder: created if missing; it must be empty, or have the crops of an equal call.
        train_split: list in ImageSets/Main whose objects go to ``train``.
        test_split: list whose objects go to ``val``.
        min_side: smallest shorter side of an object, in pixels.

    Returns:
        The number of crops in ``train`` and ``val``; and, by image, why it could not be read.

    Raises:
        FileNotFoundError, ValueError: see ``read_voc``; or an image is in both lists, or the folder
            has other crops.
    """
    splits = {"train": train_split, "val": test_split}
    data = {name: read_voc(root, split) for name, split in splits.items()}
    ids = {name: [record.image_id for record in each.records] for name, each in data.items()}
    refuse_shared(ids["train"], ids["val"], (train_split, test_split))
    objects = content_key({name: _objects(each) for name, each in data.items()})
    _claim(folder, {**splits, "min_side": min_side, "objects": objects, "version": VERSION})
    counts: dict[str, int] = {}
    unreadable: dict[str, str] = {}
    for name, each in data.items():
        counts[name], failed = _cut(each, folder / name, min_side)
        unreadable |= {**each.unreadable, **failed}
    return counts, unreadable


def _objects(data: Dataset) -> list[Any]:
    """Everything in a split that its crops depend on."""
    return [
        [
            record.image_id,
            content_digest(record.path),
            [data.classes[label] for label in record.labels],
            record.boxes.tolist(),
            record.difficult.tolist(),
        ]
        for record in data.records
    ]


def _claim(folder: Path, made_of: dict[str, Any]) -> None:
    """Record in the folder what its crops are made from, or check that the record is the same."""
    path = folder / NOTE
    if path.exists():
        found = json.loads(read_text(path))
        if found != made_of:
            raise ValueError(
                f"{folder} holds crops of {_words(found)}, not of {_words(made_of)}; name another "
                "folder with --folder or delete this one"
            )
        return
    if any((folder / name).exists() for name in ("train", "val")):
        raise ValueError(
            f"{folder} already holds images, without a {NOTE} that says from what they were cut; "
            "name another folder with --folder or delete this one"
        )
    save_text(path, json.dumps(made_of) + "\n")


def _words(made_of: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in made_of.items())


def _cut(data: Dataset, folder: Path, min_side: int) -> tuple[int, dict[str, str]]:
    """Write the crops of a split; returns their number, and why images could not be read."""
    count, unreadable = 0, {}
    for record in data.records:
        paths = {
            folder / file_part(data.classes[record.labels[number]])
            / f"{file_part(record.image_id)}_{number:02d}.jpg": record.boxes[number]
            for number in _wanted(record, min_side)
        }  # fmt: skip
        try:
            _save(record, {path: box for path, box in paths.items() if not path.exists()})
        except UnreadableImage as error:
            unreadable[record.image_id] = str(error)
            continue
        count += len(paths)
    return count, unreadable


def _wanted(record: ImageRecord, min_side: int) -> list[int]:
    """Indices of the objects to cut out."""
    sides = record.boxes[:, 2:] - record.boxes[:, :2]
    return np.flatnonzero(
        ~record.difficult & (sides.min(axis=1, initial=np.inf) >= min_side)
    ).tolist()


def _save(record: ImageRecord, boxes: dict[Path, NDArray[np.float32]]) -> None:
    """Cut boxes out of an image.

    Raises:
        UnreadableImage: the image cannot be read.
    """
    if not boxes:
        return
    pixels = read_image(record.path)
    for path, box in boxes.items():
        left, top, right, bottom = box.round().astype(int)
        with write_atomic(path) as file:
            crop = Image.fromarray(pixels[top:bottom, left:right])
            crop.save(file, "JPEG", quality=QUALITY)
