"""The cached proposals of annotated pictures."""

from collections.abc import Sequence

from detection.data.records import ImageRecord
from detection.run import Run
from proposals.store import WindowStore


def find_windows(run: Run, split: str, records: Sequence[ImageRecord]) -> WindowStore:
    """Propose windows on every picture that has none in the run's cache yet."""
    store = WindowStore(run.cache, run.config.proposals)
    missing = store.missing([record.path for record in records])
    run.done_before("windows", len(records) - len(missing), len(records))
    if not missing:
        return store
    with run.stage(f"windows of {split}"):
        for _ in run.progress(store.compute(missing, run.workers), "windows", len(missing)):
            pass
    return store
