"""The cached proposals of annotated pictures."""

from collections.abc import Sequence

from detection.data.records import ImageRecord
from detection.run import Run
from proposals.imported import ImportedWindows
from proposals.store import Windows, WindowStore, WindowUnion


def find_windows(run: Run, split: str, records: Sequence[ImageRecord]) -> Windows:
    """Propose windows, by each method asked for, on every picture that has none in the cache.

    Those of a file are read as they are needed.
    """
    proposals = run.config.proposals
    if proposals.file is not None:
        return ImportedWindows(proposals.file)
    stores = [WindowStore(run.cache, method) for method in proposals.parts]
    pictures = [record.path for record in records]
    for store in stores:
        missing = store.missing(pictures)
        run.done_before("windows", len(records) - len(missing), len(records))
        if not missing:
            continue
        with run.stage(f"windows of {split} by {store.method.name}"):
            made = store.compute(missing, run.workers)
            for _ in run.progress(made, store.method.name, len(missing)):
                pass
    return stores[0] if len(stores) == 1 else WindowUnion(stores, proposals)
