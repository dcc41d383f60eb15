"""What determines a classifier, as keys."""

from dataclasses import asdict
from typing import Any, NamedTuple

from classification.config import Config
from classification.folder import LabelledImages, images_key
from classification.leaks import MOST_BYTES
from files.names import content_key

VERSION = 2  # raised when the same images and settings would give other weights


class TrainingKeys(NamedTuple):
    """Of all that determines the weights, but the processor and the number of processes.

    Attributes:
        key: of one training.
        settings: the same without the seed: of trainings that differ in nothing else.
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
    """What tells images from others: their bytes, or their names and sizes where they are many."""
    sizes = images.sizes()
    if sum(sizes) > MOST_BYTES:
        return [images.names, sizes]
    return images_key(images.root, images.names)
