"""Keys of everything that determines a classifier."""

from dataclasses import asdict
from typing import Any, NamedTuple

from classification.config import Config
from classification.folder import LabelledImages, images_key
from classification.leaks import MOST_BYTES
from files.names import content_key

VERSION = 2  # raise it when the same images and settings give other weights


class TrainingKeys(NamedTuple):
    """Keys of everything that determines the weights, except processor and number of processes.

    Attributes:
        key: of one training.
        settings: the same without the seed, so trainings that differ only in the seed share it.
    """

    key: str
    settings: str


def training_keys(config: Config, train: LabelledImages, val: LabelledImages) -> TrainingKeys:
    """The keys of a training."""
    settings = asdict(config)
    for name in ("run", "device", "workers", "strict"):
        del settings[name]
    del settings["data"]["root"], settings["data"]["keep_gb"]
    parts = {"version": VERSION, "settings": settings, "classes": train.classes}
    parts |= {"train": _content(train), "val": _content(val)}
    key = content_key(parts)
    del settings["seed"]
    return TrainingKeys(key, content_key(parts))


def _content(images: LabelledImages) -> Any:
    """Identifies images by their bytes or, above MOST_BYTES, by their names and sizes."""
    sizes = images.sizes()
    if sum(sizes) > MOST_BYTES:
        return [images.names, sizes]
    return images_key(images.root, images.names)
