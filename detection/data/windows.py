"""Finds the windows of annotated images, and leaves out unreadable images."""

from collections.abc import Iterable
from pathlib import Path

from joblib import delayed

from detection.data.records import Dataset
from detection.pool import Pool, shared_out
from detection.run import Run
from files.images import UnreadableImage, read_image
from proposals.imported import ImportedWindows
from proposals.store import Windows, WindowStore, WindowUnion


def find_windows(run: Run, split: str, data: Dataset) -> tuple[Windows, Dataset]:
    """Find windows, by each configured method, in every image that has none in the cache.

    An image with windows in the cache could be decoded, so unreadable images are found here.
    Windows of a file are read later, when needed; but here the file must have windows of every
    image, and every image is decoded.

    Returns:
        The windows, and the data without unreadable images.

    Raises:
        UnreadableImage: an image cannot be read, and ``config.strict`` is set.
        ValueError: the file of windows lacks an image; or no image can be read.
    """
    proposals = run.config.proposals
    paths = [record.path for record in data.records]
    if proposals.file is not None:
        imported = ImportedWindows(proposals.file)
        imported.require(paths)
        with run.stage(f"reading images of {split}"):
            return imported, _without(run, data, _decoded(run, paths), len(paths))
    stores = [WindowStore(run.cache, method) for method in proposals.parts]
    for store in stores:
        data = _fill(run, split, store, data)
    return (stores[0] if len(stores) == 1 else WindowUnion(stores, proposals)), data


def _fill(run: Run, split: str, store: WindowStore, data: Dataset) -> Dataset:
    """Make a store's missing windows; returns the data without unreadable images."""
    missing = store.missing(record.path for record in data.records)
    total = len(data.records)
    run.done_before("windows", total - len(missing), total)
    if not missing:
        return data
    with run.stage(f"windows of {split} by {store.method.name}", len(missing)):
        return _without(run, data, store.compute(missing, _pool(run)), len(missing))


def _decoded(run: Run, paths: Iterable[Path]) -> Iterable[tuple[Path, UnreadableImage | None]]:
    """Decode each image; yields its path, and the error if it cannot be read."""
    return _pool(run)(delayed(_read)(path) for path in paths)


def _pool(run: Run) -> Pool:
    """A pool of processes, also with a GPU, because windows need no network.

    Threads would wait for each other: OpenCV's number of threads and libc's random numbers exist
    once per process, so a process makes windows for one image at a time (``proposals/opencv.py``).
    """
    return shared_out(run.workers, "generator_unordered", cluster=run.config.cluster)


def _read(path: Path) -> tuple[Path, UnreadableImage | None]:
    try:
        read_image(path)
    except UnreadableImage as error:
        return path, error
    return path, None


def _without(
    run: Run, data: Dataset, seen: Iterable[tuple[Path, UnreadableImage | None]], total: int
) -> Dataset:
    """The data without the images that turn out to be unreadable.

    Args:
        run: shows the progress; its setting ``strict`` stops at the first unreadable image.
        data: all images.
        seen: images as they are completed, each with its error or None.
        total: number of images in ``seen``.
    """
    failed: dict[Path, str] = {}
    for path, error in run.progress(seen, "images", total):
        if error is not None:
            if run.config.strict:
                raise error
            failed[path] = str(error)
    of_ids = {each.image_id: failed[each.path] for each in data.records if each.path in failed}
    return data.without(of_ids) if of_ids else data
