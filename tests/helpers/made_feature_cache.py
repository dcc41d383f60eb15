"""A bank whose features show the window that they are from, and images and windows for it."""

from typing import ClassVar

import numpy as np
import torch
from PIL import Image

from detection.data.records import ImageRecord
from detection.features.extractor import WindowFeatures
from detection.training.feature_cache import FeatureCache, Sampling

HEIGHT, WIDTH = 64, 96
CLASSES = ("cat", "dog", "sheep")
SAMPLING = Sampling()


class FakeExtractor:
    """A window's feature is its corners and two pixels of the image.

    The images' red grows by 2 per column, so the pixels in the window's first and last column show
    its place.
    """

    facts: ClassVar = {"features": "fake"}

    def features(self, image, windows):
        rows = np.zeros((len(windows), 6), np.float32)
        for row, (x1, y1, x2, y2) in zip(rows, windows.astype(int), strict=True):
            row[:] = x1, y1, x2, y2, image[y1, x1, 0], image[y1, x2 - 1, 0]
        # Equal windows share a row, and the rows are not in the order of the windows.
        unique, index = np.unique(rows, axis=0, return_inverse=True)
        return WindowFeatures(torch.from_numpy(unique), index.reshape(-1))


def made_record(folder, image_id="000001", boxes=((10, 10, 50, 50), (60, 20, 90, 60)), **given):
    labels = given.get("labels", np.arange(len(boxes)) % len(CLASSES))
    difficult = given.get("difficult", np.zeros(len(boxes), bool))
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[:, :, 0] = 2 * np.arange(WIDTH)
    image[:, :, 1] = given.get("shade", 0)
    path = folder / f"{image_id}.png"
    Image.fromarray(image).save(path)
    return ImageRecord(
        image_id,
        path,
        (HEIGHT, WIDTH),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(difficult, bool),
    )


def made_proposals(seed=0, count=150):
    rng = np.random.default_rng(seed)
    near = np.array([(10, 10, 50, 50), (60, 20, 90, 60)])[rng.integers(2, size=count)]
    boxes = near + rng.integers(-18, 19, (count, 4))
    boxes[:, 0::2] = boxes[:, 0::2].clip(0, WIDTH)
    boxes[:, 1::2] = boxes[:, 1::2].clip(0, HEIGHT)
    boxes = boxes[((boxes[:, 2:] - boxes[:, :2]) > 0).all(axis=1)]
    return np.unique(boxes, axis=0).astype(np.float32)


def made_feature_cache(cache, sampling=SAMPLING, windows_key="windows", classes=CLASSES, **facts):
    extractor = FakeExtractor()
    extractor.facts = FakeExtractor.facts | facts
    return FeatureCache(cache, extractor, windows_key, classes, sampling)
