"""How long a training will take here: all of its stages on a few of its images, scaled up."""

import logging
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detection.config import Config
from detection.data.overview import sample_of
from detection.data.records import Dataset
from detection.run import Run
from detection.training.pipeline import train_detector
from detection.training.time_left import items_of

IMAGES = 12
# Batches of a phase; a step's time is even after the first.
STEPS = 12


@dataclass(frozen=True)
class StageTime:
    """What a stage took on the sample.

    Attributes:
        name: of the stage.
        seconds: in all.
        items: images or batches it went over; 0 where it does all at once.
        an_item: seconds from one to the next, without what comes before the first.
    """

    name: str
    seconds: float
    items: int
    an_item: float

    def of(self, items: float, share: float) -> float:
        """Seconds for so many items, or for a data set ``share`` times the sample."""
        if not self.items:
            return self.seconds * share
        return self.seconds + self.an_item * (items - self.items)


class _TimedRun(Run):
    """A run that knows what its stages took, item by item."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.times: list[StageTime] = []
        self._ticks: list[float] = []

    @contextmanager
    def stage(self, name: str, images: int | None = None) -> Iterator[None]:
        """Time a stage."""
        self._ticks, start = [], time.perf_counter()
        yield
        seconds, items = time.perf_counter() - start, len(self._ticks)
        spread = self._ticks[-1] - self._ticks[0] if items > 1 else seconds
        self.times.append(StageTime(name, seconds, items, spread / max(items - 1, 1)))

    def progress(self, items: Iterable[Any], what: str, total: int) -> Iterator[Any]:
        """Note when each item is done."""
        for item in items:
            yield item
            self._ticks.append(time.perf_counter())


def estimate_seconds(config: Config, data: Dataset) -> dict[str, float]:
    """Seconds of each stage of a training, from a training on a sample in a temporary folder.

    The sample has an image of each class and at least IMAGES images. Expect errors of a quarter:
    other images may need more hard negatives, and the machine may be busy.

    Args:
        config: of the training.
        data: its images.

    Raises:
        ValueError: the training would refuse the settings or the sample.
    """
    sample = sample_of(data.records, max(IMAGES, len(data.classes)))
    finetune = config.finetune
    few = replace(
        finetune,
        steps=min(finetune.steps, STEPS),
        conv_steps=min(finetune.conv_steps, STEPS),
    )
    with tempfile.TemporaryDirectory() as folder, _quiet():
        place = Path(folder)
        run = _TimedRun(
            replace(
                config,
                run=str(place / "run"),
                data=replace(config.data, cache=str(place / "cache")),
                finetune=few,
            )
        )
        train_detector(run, replace(data, records=tuple(sample)))
    share = len(data.records) / len(sample)
    found = {}
    for each in run.times:
        part = config.held_back if each.name == "calibration" else 1 - config.held_back
        items = items_of(each.name, config, round(part * len(data.records)))
        found[each.name] = each.of(items, share)
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Without log lines of a training that nobody asked for."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
