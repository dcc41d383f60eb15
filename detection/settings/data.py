"""Settings of the images."""

from dataclasses import dataclass
from typing import Literal

Format = Literal["auto", "voc", "xml", "coco", "yolo", "csv"]


@dataclass(frozen=True)
class Data:
    """Annotated images.

    Attributes:
        root: folder of images and annotations; VOC's layout (Annotations, JPEGImages and
            ImageSets, or the VOCdevkit above them), XML files, COCO's JSON, YOLO's text files, or
            CSV tables.
        train_split: split to train on; in VOC's layout a list in ImageSets/Main, otherwise train,
            val or test by folders, by lists, or by content. If there is no trainval, it is train.
        test_split: split to test on; if there is no test, it is val.
        format: format of the annotations; 'auto' recognises it.
        unlabelled: whether images without annotation are left out or count as background; in VOC's
            layout the lists decide which images are used.
        lists: folder of <split>.txt, one image id a line, to use instead of the data's own splits.
        difficult: train on objects marked difficult too, as the released script does; otherwise
            they are never positives, and windows on them are never negatives.
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
        root: folder of images and annotations, as for training.
        split: name of the split, such as train, val or test; 'all' has every image.
        format: format of the annotations; 'auto' recognises it.
        unlabelled: whether images without annotation are left out or count as background.
        lists: folder of <split>.txt, one image id a line, to use instead of the data's own splits.
    """

    root: str = "data/VOCdevkit"
    split: str = "test"
    format: Format = "auto"
    unlabelled: Literal["left_out", "background"] = "left_out"
    lists: str | None = None
