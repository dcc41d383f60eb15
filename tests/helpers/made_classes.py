"""A folder of synthetic images: each class has a colour, each image a shape and noise."""

import numpy as np
from PIL import Image

COLOURS = {"blue": (40, 60, 200), "green": (50, 180, 60), "red": (200, 50, 40)}


def draw_image(colour, seed):
    """Return noise around a colour, with sides of 40 to 69 pixels."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(40, 70, 2)
    pixels = np.array(colour) + rng.normal(0, 40, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_classes(folder, train=8, val=3, classes=COLOURS):
    """Write so many images to each ``train/CLASS/`` and ``val/CLASS/``; return the folder."""
    for place, name in enumerate(classes):
        for split, count in (("train", train), ("val", val)):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                seed = (place, split == "val", number)
                draw_image(COLOURS[name], seed).save(folder / split / name / f"{number}.png")
    return folder
