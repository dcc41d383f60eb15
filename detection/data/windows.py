"""The cached proposals of annotated images; images that cannot be read fall out here."""

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
    """Propose windows, by each method asked for, on every image that has none in the cache.

    To have windows an image must have been decoded, here or in an earlier run. Windows of a file
    are read as they are needed; that it has some of each image is seen to first.

    Returns:
        The windows, and the data without the images that cannot be read.

    Raises:
        UnreadableImage: an image cannot be read, and ``config.strict`` says to stop at the first.
        ValueError: the file of others' windows lacks an image; or no image can be read.
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
    """Make a store's missing windows; the data without the images that cannot be read."""
    missing = store.missing(record.path for record in data.records)
    total = len(data.records)
    run.done_before("windows", total - len(missing), total)
    if not missing:
        return data
    with run.stage(f"windows of {split} by {store.method.name}", len(missing)):
        return _without(run, data, store.compute(missing, _pool(run)), len(missing))


def _decoded(run: Run, paths: Iterable[Path]) -> Iterable[tuple[Path, UnreadableImage | None]]:
    """Each image, and why it cannot be read."""
    return _pool(run)(delayed(_read)(path) for path in paths)


def _pool(run: Run) -> Pool:
    """By processes beside a GPU too: no network is needed, and threads would wait for each other.

    A process has OpenCV's number of threads and libc's random numbers once, so its windows are made
    one image at a time (``proposals/opencv.py``).
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
    """The data without the images that turn out to be unreadable as they are looked at.

    Args:
        run: shows the progress; its settings say whether to stop at the first.
        data: all of it.
        seen: images as they are done, and why they cannot be read.
        total: of these.
    """
    failed: dict[Path, str] = {}
    for path, error in run.progress(seen, "images", total):
        if error is not None:
            if run.config.strict:
                raise error
            failed[path] = str(error)
    of_ids = {each.image_id: failed[each.path] for each in data.records if each.path in failed}
    return data.without(of_ids) if of_ids else data
