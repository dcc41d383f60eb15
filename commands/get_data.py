"""Get a data set: download VOC 2007, draw synthetic images, or cut objects out of images.

Example:
    python tools/get_data.py voc07
    python tools/get_data.py synthetic
    python tools/get_data.py voc_crops

The first command downloads VOC 2007 (trainval 439 MB, test 431 MB) to data/VOCdevkit/VOC2007. If it
is interrupted, the same command resumes it. Without network, put the two official archives into
data/ yourself and run the same command: it checks and unpacks them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from classification.voc_crops import write_crops
from commands.cli import end, run_tool
from detection.data.synthetic.dataset import write_synthetic_voc
from detection.data.voc_archives import VOC07, Progress, fetch, is_unpacked, unpack


def voc07(folder: Path = Path("data"), url: str | None = None) -> None:
    """Download the official archives of VOC 2007, trainval and test.

    Args:
        folder: folder for the archives; the images go to VOCdevkit/VOC2007 in it.
        url: address of a mirror's folder that has the archives under their official names.
    """
    for archive in VOC07:
        if is_unpacked(archive, folder):
            print(f"{archive.name}: already unpacked")
            continue
        _follow(fetch(archive, folder, url), f"fetch {archive.name}", unit="B")
        _follow(unpack(archive, folder), f"unpack {archive.name}", unit=" files")
        print(f"{archive.name}: checked and unpacked")
    print(f"VOC 2007 is in {folder / 'VOCdevkit' / 'VOC2007'}")


def synthetic(
    folder: Path = Path("data/synthetic"), train: int = 48, test: int = 24, seed: int = 0
) -> None:
    """Draw images of five classes of textured things, in VOC's layout.

    Args:
        folder: folder for images and annotations.
        train: number of images of the train split.
        test: number of images of the test split.
        seed: the same seed gives the same images.
    """
    write_synthetic_voc(folder, train, test, seed)
    print(f"{train} train and {test} test images are in {folder}")


@dataclass(frozen=True)
class Annotated:
    """Annotated images in VOC's layout.

    Attributes:
        root: folder of Annotations, JPEGImages and ImageSets, or the VOCdevkit above it.
        train_split: list in ImageSets/Main whose objects go to train/.
        test_split: list whose objects go to val/; it shares no image with the other.
    """

    root: str = "data/VOCdevkit"
    train_split: str = "train"
    test_split: str = "val"


def voc_crops(
    data: Annotated = Annotated(),
    folder: Path = Path("data/voc_crops"),
    min_side: int = 48,
) -> None:
    """Cut objects out of annotated images, for train_cls: train/CLASS/ and val/CLASS/.

    Args:
        data: the images.
        folder: folder for the crops; must not hold other crops.
        min_side: smallest shorter side of an object, in pixels; difficult objects are left out.
    """
    counts, skipped = write_crops(data.root, folder, data.train_split, data.test_split, min_side)
    for split, (name, count) in zip(
        (data.train_split, data.test_split), counts.items(), strict=True
    ):
        print(f"{count} objects of {split} are in {folder / name}")
    end(skipped)


def _follow(steps: Iterator[Progress], title: str, unit: str) -> None:
    with tqdm(desc=title, unit=unit, unit_scale=True, disable=None) as bar:
        for step in steps:
            bar.total = step.total
            bar.update(step.done - bar.n)


def run() -> None:
    """Call the function that the command line names, with its flags."""
    run_tool({"voc07": voc07, "synthetic": synthetic, "voc_crops": voc_crops})
