"""Draws a small synthetic data set in VOC's layout, for the quickstart, tests and offline machines.

It has five classes of textured objects (ball, brick, leaf, ring, star) on textured backgrounds with
clutter, in several sizes, with overlaps and difficult flags. One image in twenty has no object.
Image i of a split depends only on the seed, the split and i, not on the number of images.
"""

import json
import logging
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

from detection.boxes import to_voc
from detection.data.synthetic.scene import CLASSES, Scene, render_scene
from files.writing import save_text, write_atomic

VERSION = 1  # of the drawing: raise it when the same seed gives other images
SPLITS = ("train", "test")
MOST_OBJECTS = 5
EMPTY_EVERY = 20
JPEG_QUALITY = 90

logger = logging.getLogger(__name__)


def write_synthetic_voc(root: Path, train: int, test: int, seed: int) -> None:
    """Draw a data set in VOC's layout; files from an earlier call with the same arguments are kept.

    It writes ``JPEGImages``, ``Annotations``, ``ImageSets/Main/{train,test}.txt`` (last), and
    ``synthetic.json`` with the parameters. The next call completes one that was interrupted.

    Args:
        root: folder of the data set; created if missing.
        train: images of the split ``train``, 0 or more.
        test: images of the split ``test``, 0 or more.
        seed: 0 or more; equal seeds give equal images.

    Raises:
        ValueError: the folder has other data, or a data set drawn with other parameters.
    """
    root = Path(root)
    counts = dict(zip(SPLITS, (train, test), strict=True))
    for name, value in (*counts.items(), ("seed", seed)):
        if value < 0:
            raise ValueError(f"{name} must be 0 or more, got {value}")
    _claim(root, {**counts, "seed": seed, "version": VERSION})
    for split, count in counts.items():
        image_ids = [f"{split}_{index:05d}" for index in range(count)]
        for index, image_id in enumerate(image_ids):
            annotation = root / "Annotations" / f"{image_id}.xml"
            image = root / "JPEGImages" / f"{image_id}.jpg"
            if not (annotation.exists() and image.exists()):
                _save(synthetic_image(split, index, seed), image, annotation)
        listed = root / "ImageSets" / "Main" / f"{split}.txt"
        if not listed.exists():
            save_text(listed, "".join(f"{image_id}\n" for image_id in image_ids))
    logger.info("drawn data in %s: %d train and %d test images", root, train, test)


def synthetic_image(split: str, index: int, seed: int) -> Scene:
    """Image ``index`` of a split: one to five objects, or none in one image of twenty.

    The first object's class cycles with the index, so even a small set has every class.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    if index % EMPTY_EVERY == EMPTY_EVERY // 2:
        return render_scene(rng, ())
    others = rng.integers(len(CLASSES), size=rng.integers(MOST_OBJECTS))
    return render_scene(rng, tuple(CLASSES[i] for i in (index % len(CLASSES), *others)))


def _claim(root: Path, parameters: dict[str, int]) -> None:
    """Write the parameters into the folder, or check that those in it are the same."""
    path = root / "synthetic.json"
    if not path.exists():
        if (root / "Annotations").exists() or (root / "JPEGImages").exists():
            raise ValueError(
                f"{root} holds data that this command did not draw; name another folder"
            )
        save_text(path, json.dumps(parameters) + "\n")
        return
    found = json.loads(path.read_text())
    if found != parameters:
        raise ValueError(
            f"{root} holds images drawn with {_words(found)}, not with {_words(parameters)}; name "
            "another folder or delete this one"
        )


def _words(parameters: dict[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in parameters.items())


def _save(scene: Scene, image: Path, annotation: Path) -> None:
    with write_atomic(image) as file:
        Image.fromarray(scene.image).save(file, "JPEG", quality=JPEG_QUALITY)
    save_text(annotation, annotation_xml(scene, image.name))


def annotation_xml(scene: Scene, filename: str) -> str:
    """The scene's objects as a VOC annotation file."""
    height, width, _ = scene.image.shape
    lines = [
        "<annotation>",
        f"\t<filename>{escape(filename)}</filename>",
        f"\t<size><width>{width}</width><height>{height}</height><depth>3</depth></size>",
    ]
    corners = to_voc(scene.boxes).astype(np.int64)
    for i, name in enumerate(scene.names):
        sides = zip(("xmin", "ymin", "xmax", "ymax"), corners[i], strict=True)
        lines += [
            "\t<object>",
            f"\t\t<name>{name}</name>",
            f"\t\t<truncated>{int(scene.truncated[i])}</truncated>",
            f"\t\t<difficult>{int(scene.difficult[i])}</difficult>",
            f"\t\t<bndbox>{''.join(f'<{side}>{value}</{side}>' for side, value in sides)}</bndbox>",
            "\t</object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])
