"""Look at annotated images before training: what was read, what is wrong, how it looks.

    python tools/inspect_data.py --data.root my_images

Prints the number of objects of each class, what was repaired or left out, duplicate images, objects
too small for any window, the recall of the windows on a sample of the images (these windows stay in
the cache), and how long a training will take on this machine, estimated from 12 images. ``--sheet``
names the PNG that shows images with their boxes. All formats of training are read.
"""

import logging
from dataclasses import replace
from pathlib import Path

from joblib import cpu_count

from commands.cli import end, parse_config, run_tool
from commands.make_proposals import measure, windows_of
from commands.settings_files import default_config
from detection.data.folder import SHEET
from detection.data.overview import (
    count_classes,
    duplicates,
    out_of_reach,
    repeated_boxes,
    sample_of,
)
from detection.data.reading import read_dataset
from detection.data.records import Dataset
from detection.data.splits import ALL
from detection.evaluation.contact_sheet import draw_contact_sheet
from detection.pool import shared_out
from detection.settings.data import Data, Split
from detection.training.estimate import estimate_seconds
from detection.training.labels import few_objects
from detection.training.time_left import remember
from files.writing import refuse_folders, refuse_inputs
from proposals import Proposals

logger = logging.getLogger("inspect_data")

# Modules of detection.data whose warnings are about images and files, not about a split.
ABOUT_IMAGES = ("assembly", "coco", "records", "yolo_splits")

NAMED = 3  # examples of a finding
OWN_IMAGES = Path("configs/own_images.yaml")


def main(
    data: Split = Split(split=ALL),  # noqa: B008 - frozen
    proposals: Proposals = Proposals("edge_boxes"),  # noqa: B008 - frozen
    training: Path | None = OWN_IMAGES,
    cache: Path = Path(Data.cache),
    workers: int = 0,
    sample: int = 20,
    sheet: Path = Path(SHEET),
) -> None:
    """Print what a folder of annotated images holds, and draw some of them.

    Args:
        data: the images; the split 'all' has all of them.
        proposals: the method of windows whose recall is measured.
        training: configuration of the training whose time is estimated; 'null' for no estimate.
        cache: folder where windows are kept.
        workers: number of processes that make windows, 0 for one per core.
        sample: number of images on which windows are measured; 0 for none.
        sheet: PNG file for at most 24 images with their boxes.

    Raises:
        ValueError: workers or sample out of range, or the data cannot be used.
    """
    if workers < 0 or sample < 0:
        raise ValueError(f"workers and sample must be 0 or more; got {workers}, {sample}")
    refuse_folders([sheet])
    dataset = read_dataset(data, data.split)
    refuse_inputs([sheet], [record.path for record in dataset.records])
    show_classes(dataset)
    show_findings(dataset, proposals)
    draw_contact_sheet(sample_of(dataset.records, 24), dataset.classes, sheet)
    print(f"contact sheet: {sheet}")
    if sample:
        some = replace(dataset, records=tuple(sample_of(dataset.records, sample)))
        show_recall(some, proposals, cache, workers)
    if training is not None:
        show_time(data, proposals, training, cache)
    end(dataset.unreadable)


def show_classes(data: Dataset) -> None:
    """Print a line per class."""
    width = max(map(len, (*data.classes, "class")))
    print(
        f"{'class':<{width}} {'objects':>8} {'difficult':>10} {'images':>7}  median height, width"
    )
    for each in count_classes(data):
        numbers = f"{each.objects:>8} {each.difficult:>10} {each.images:>7}"
        print(f"{each.name:<{width}} {numbers}  {each.size[0]} {each.size[1]}")


def show_findings(data: Dataset, proposals: Proposals) -> None:
    """Print what was read, and objects that training or detection may miss."""
    records = data.records
    objects = sum(len(record.boxes) for record in records)
    empty = sum(len(record.boxes) == 0 for record in records)
    print(f"{len(records)} images, {objects} objects; {empty} images without objects")
    if few := few_objects(data):
        named = ", ".join(f"{name} {count}" for name, count in few.items())
        print(f"classes with few objects (expect low accuracy): {named}")
    if again := repeated_boxes(records):
        print(f"objects with the same box and class as another: {again}")
    if same := duplicates(records):
        named = "; ".join(" = ".join(group) for group in same[:NAMED])
        print(f"duplicate images: {len(same)}, such as {named}")
    small = {record.image_id: int(out_of_reach(record, proposals).sum()) for record in records}
    if count := sum(small.values()):
        named = ", ".join([image_id for image_id, found in small.items() if found][:NAMED])
        print(
            f"objects too small for any window of {proposals.name}: {count}, such as in {named}; "
            "cut large images into parts to find them"
        )


def show_recall(data: Dataset, proposals: Proposals, cache: Path, workers: int) -> None:
    """Print which share of the objects the windows cover, on some images."""
    pool = shared_out(workers or cpu_count(), "generator_unordered")
    stores, data = windows_of(proposals, data, cache, pool)
    counted = sum(int((~record.difficult).sum()) for record in data.records)
    if not counted:
        print("no objects to measure the windows on")
        return
    found = measure(stores, data)[None]
    print(
        f"windows by {proposals.name} on {len(data.records)} images: {found.windows.mean():.0f} "
        f"per image; they cover {found.recall[0.5]:.1%} of {counted} objects at IoU 0.5, "
        f"{found.recall[0.7]:.1%} at 0.7"
    )


def show_time(data: Split, proposals: Proposals, training: Path, cache: Path) -> None:
    """Print how long a training would take, and keep the estimate for the training."""
    path = default_config(training)
    config = parse_config([] if path is None else ["--config", str(path)])
    given = {name: value for name, value in vars(data).items() if name != "split"}
    config = replace(config, proposals=proposals, data=replace(config.data, **given))
    try:
        dataset = read_again(config.data)
        logger.info("timing a short training on a few of the images, which takes a minute or more")
        stages = estimate_seconds(config, dataset)
    except (OSError, RuntimeError, ValueError) as error:
        print(f"the time of a training cannot be estimated: {error}")
        return
    images = len(dataset.records)
    each = {name: {"seconds": value, "images": images} for name, value in stages.items()}
    remember(cache, config, each)
    longest = sorted(stages, key=lambda name: -stages[name])[:NAMED]
    named = ", ".join(f"{name} {stages[name] / 60:.1f}" for name in longest)
    minutes = sum(stages.values()) / 60
    print(
        f"a training with {training} on {images} of the images takes about "
        f"{minutes:.0f} minutes here ({named})"
    )


def read_again(data: Data) -> Dataset:
    """The training images, of which only the warnings about the split are new."""
    already = [logging.getLogger(f"detection.data.{name}") for name in ABOUT_IMAGES]
    for each in already:
        each.disabled = True
    try:
        return read_dataset(data, data.train_split)
    finally:
        for each in already:
            each.disabled = False


def run() -> None:
    """Call ``main`` with the flags of the command line."""
    run_tool(main)
