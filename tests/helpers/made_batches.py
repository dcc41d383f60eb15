"""Images with windows around their objects, and batches of them."""

import numpy as np
from PIL import Image

from detection.data.records import ImageRecord
from detection.features.scales import ScaleChoice
from detection.settings.training import Finetune
from detection.training.finetuning.batches import WindowBatches

HEIGHT = 48


WIDTH = 64


BOXES = ((4, 6, 26, 38), (34, 12, 60, 40))


CLASSES = 3


SCALES = (100, 200, 300)


SETTINGS = Finetune(batch=24, images=2, scale="random", jitter=0)


class Windows:
    """A store of windows around the objects with every overlap; each image has its own list."""

    def __init__(self, count=150):
        self.count = count

    def load(self, path):
        rng = np.random.default_rng(int(path.stem))
        boxes = np.array(BOXES)[rng.integers(2, size=self.count)]
        boxes = boxes + rng.integers(-12, 13, (self.count, 4))
        boxes[:, 0::2] = boxes[:, 0::2].clip(0, WIDTH)
        boxes[:, 1::2] = boxes[:, 1::2].clip(0, HEIGHT)
        boxes = boxes[((boxes[:, 2:] - boxes[:, :2]) > 0).all(axis=1)]
        return np.unique(boxes, axis=0).astype(np.float32)


def made_record(folder, number, boxes=BOXES, labels=None, difficult=None):
    """Write noise with a red, green or blue rectangle, by class, in each box; return the record."""
    rng = np.random.default_rng(number)
    labels = rng.permutation(CLASSES)[: len(boxes)] if labels is None else np.array(labels)
    image = rng.integers(80, 120, (HEIGHT, WIDTH, 3))
    for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True):
        image[y1:y2, x1:x2, label] += 130
    path = folder / f"{number:06}.png"
    Image.fromarray(image.astype(np.uint8)).save(path)
    return ImageRecord(
        path.stem,
        path,
        (HEIGHT, WIDTH),
        np.array(boxes, np.float32).reshape(-1, 4),
        labels.astype(np.int64),
        np.zeros(len(boxes), bool) if difficult is None else np.array(difficult, bool),
    )


def made_records(folder, count=4, first=0):
    return [made_record(folder, first + number) for number in range(count)]


def made_batches(
    records,
    settings=SETTINGS,
    seed=0,
    *,
    store=None,
    choice=ScaleChoice(SCALES),  # noqa: B008 - frozen
    difficult=False,
):
    store = Windows() if store is None else store
    return WindowBatches(records, store, CLASSES, choice, settings, difficult=difficult, seed=seed)


def same_views(one, other):
    return len(one) == len(other) and all(
        np.array_equal(a.image, b.image)
        and np.array_equal(a.windows, b.windows)
        and np.array_equal(a.labels, b.labels)
        and a.side == b.side
        for a, b in zip(one, other, strict=True)
    )
