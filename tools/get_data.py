"""Get a data set: fetch VOC 2007, or draw a miniature of it.

Example:
    python tools/get_data.py voc07
    python tools/get_data.py synthetic

The first fetches VOC 2007 (trainval 439 MB, test 431 MB) into data/VOCdevkit/VOC2007. A call after
one that was broken off resumes it; a second call sees that all is there. Without network, put the
two official archives into data/ yourself and run the same command: it checks and unpacks them.
"""

from collections.abc import Iterator
from pathlib import Path

from _cli import run_tool

from tqdm import tqdm

from detection.data.synthetic.dataset import write_synthetic_voc
from detection.data.voc_archives import VOC07, Progress, fetch, is_unpacked, unpack


def voc07(folder: Path = Path("data"), url: str | None = None) -> None:
    """Fetch the official archives of VOC 2007, trainval and test.

    Args:
        folder: the archives go here, the images into VOCdevkit/VOC2007 inside.
        url: folder of a mirror that has the archives under their official names.
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
        folder: the images and annotations go here.
        train: images of the train split.
        test: images of the test split.
        seed: same seed, same images.
    """
    write_synthetic_voc(folder, train, test, seed)
    print(f"{train} train and {test} test images are in {folder}")


def _follow(steps: Iterator[Progress], title: str, unit: str) -> None:
    with tqdm(desc=title, unit=unit, unit_scale=True, disable=None) as bar:
        for step in steps:
            bar.total = step.total
            bar.update(step.done - bar.n)


if __name__ == "__main__":
    run_tool({"voc07": voc07, "synthetic": synthetic})
