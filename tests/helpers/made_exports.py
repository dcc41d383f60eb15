"""Images of one size for exports as annotation tools write them, and reading of the exports."""

from pathlib import Path

from PIL import Image

from detection.data.reading import read_dataset
from detection.data.records import Dataset
from detection.settings.data import Data

WIDTH, HEIGHT = 60, 40

BOX = [10, 5, 20, 15]


def images(root: Path, *names: str) -> None:
    for place, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), (place, 0, 0)).save(path)


def read(root: Path, split: str = "all", **settings: str) -> Dataset:
    return read_dataset(Data(str(root), **settings), split)


def found(dataset: Dataset) -> dict[str, list]:
    """Return class names and boxes by image id."""
    return {
        record.image_id: [
            (dataset.classes[label], box)
            for label, box in zip(record.labels, record.boxes.tolist(), strict=True)
        ]
        for record in dataset.records
    }
