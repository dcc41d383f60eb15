"""Settings of the images."""

from dataclasses import dataclass
from typing import Literal

Format = Literal["auto", "voc", "xml", "coco", "yolo", "csv"]


@dataclass(frozen=True)
class Data:
    """Annotated images.

    Attributes:
        root: folder of images and annotations; in VOC's layout, with Annotations, JPEGImages and
            ImageSets, or the VOCdevkit above it; or XML beside the images or in a folder of its
            own, COCO's JSON, YOLO's text files, or a CSV table.
        train_split: split to train on: a list in VOC's ImageSets/Main; otherwise train, val or test
            by folders, by lists, or by content. Where there is no trainval, it is train.
        test_split: split to test on; val where there is no test.
        format: of the annotations; 'auto' recognises it.
        unlabelled: what becomes of images without annotation, where VOC's lists name none; they are
            left out, or taken as images without objects.
        lists: folder of <split>.txt, one image id a line, in place of the data's own splits.
        difficult: train on objects marked difficult too, as the released script does; otherwise
            they are never positives and the windows on them never negatives.
        cache: folder for windows and pooled features, shared by all runs.
    """

    root: str = "data/VOCdevkit"
    train_split: str = "trainval"
    test_split: str = "test"
    format: Format = "auto"
    unlabelled: Literal["left_out", "background"] = "left_out"
    lists: str | None = None
    difficult: bool = False
    cache: str = "data/cache"


@dataclass(frozen=True)
class Split:
    """One split of annotated images.

    Attributes:
        root: folder of images and annotations, as of a training.
        split: its name, as ``Data.test_split``; 'all' has every image.
        format: of the annotations; 'auto' recognises it.
        unlabelled: what becomes of images without annotation.
        lists: folder of <split>.txt, one image id a line.
    """

    root: str = "data/VOCdevkit"
    split: str = "test"
    format: Format = "auto"
    unlabelled: Literal["left_out", "background"] = "left_out"
    lists: str | None = None
