"""The run folder: what a training was told, where it ran, how it went, and what it left."""

import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from filelock import FileLock, Timeout
from joblib import cpu_count

from detection.config import Config
from detection.leftovers import sweep
from detection.machine import device_named, environment, native_precision, peak_memory_mb
from detection.pool import Order, Pool, shared_out, worker_count, works_here
from files.names import content_key
from files.writing import path_in_errors, save_text

logger = logging.getLogger(__name__)

# In the run's folder: the ids of the images of the training, one in a line.
TRAINED_ON = "trained_on.txt"

# Settings that say where and how fast the same training is done, or how it is tested.
ELSEWHERE = ("run", "device", "workers", "cluster", "strict", "detection", "report")

# Seconds between the events that tell how far a stage is.
PROGRESS_INTERVAL_S = 30

Progress = Callable[[Iterable[Any], str, int], Iterable[Any]]


def silent(items: Iterable[Any], what: str, total: int) -> Iterable[Any]:
    """No progress bar: the items as they are."""
    return items


def with_native_precision(config: Config, *, told: bool) -> Config:
    """The settings with a precision that the device supports; a change is logged as a warning.

    A classifier's run has settings without a precision.
    """
    if not isinstance(config, Config) or config.precision == "float32":
        return config
    precision = native_precision(config.precision, device_named(config.device))
    if told and precision != config.precision:
        logger.warning(
            "this machine has no instructions for %s, which would be several times slower than "
            "%s: computing in %s",
            *(config.precision, precision, precision),
        )
    return replace(config, precision=precision)


class Run:
    """A folder with everything that one training made; created when something is written to it.

    Args:
        config: settings; ``config.run`` is the folder. The precision becomes float32, with a
            warning, if bfloat16 would be emulated.
        command: the command line, for the record.
        progress: wraps an iterable in a progress bar: ``progress(items, what, total)``.
        told: write events; of several processes only the first one does.

    Attributes:
        expected: expected seconds of the stages to come, by name, if known; then each stage logs
            the time left.
    """

    def __init__(
        self,
        config: Config,
        command: str = "",
        progress: Progress = silent,
        *,
        told: bool = True,
    ) -> None:
        self.config = with_native_precision(config, told=told)
        self.told = told
        self.folder = Path(config.run)
        self.command = command
        self._progress = progress
        self.expected: dict[str, float] = {}

    @property
    def detector_path(self) -> Path:
        """Where the trained detector lies."""
        return self.folder / "detector.safetensors"

    @property
    def product(self) -> Path:
        """The result of the training; config.yaml has the settings that made it."""
        return self.detector_path

    @property
    def device(self) -> torch.device:
        """Where the networks compute.

        Raises:
            RuntimeError: CUDA was asked for and there is none.
        """
        return device_named(self.config.device)

    @property
    def workers(self) -> int:
        """Number of processes of this machine for work that is shared out."""
        return self.config.workers or cpu_count()

    def pool(self, order: Order) -> Pool:
        """Distributes images; jobs on a CPU have one thread each, on any machine."""
        return shared_out(self.workers, order, cluster=self.config.cluster, gpu=self._gpu)

    @property
    def shares_network(self) -> bool:
        """Whether all that ``pool`` calls is of this process, whose network it can use."""
        return works_here(self.workers, cluster=self.config.cluster, gpu=self._gpu)

    @property
    def _gpu(self) -> bool:
        return self.device.type != "cpu"

    @property
    def cache(self) -> Path:
        """Folder of windows and pooled features, shared by runs."""
        return Path(self.config.data.cache)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other trainings out of the folder, whose files they would replace.

        A killed training leaves no lock: the system takes it back.

        Raises:
            RuntimeError: another process trains in the folder.
        OSError: its file system has no locks.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise RuntimeError(
                f"another training is at work in {self.folder.absolute()}; wait until it ends, or "
                "name another folder with --run"
            ) from error
        except OSError as error:
            raise OSError(
                f"{self.folder.absolute()} cannot be locked against a second training "
                f"({error.strerror or error}); use --run with a folder whose file system has locks "
                "(for NFS, the option local_lock=flock), or check the disk"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def describe(self) -> None:
        """Write environment.json and the settings, and log the command and git state first.

        Beside the product of another training its settings stay until ``save_settings``.
        """
        facts = environment()
        if not self.product.exists():
            self.save_settings()
        save_text(self.folder / "environment.json", json.dumps(facts, indent=2) + "\n")
        logger.info("run %s: %s", self.folder, self.command)
        logger.info("%s", ", ".join(f"{name} {value}" for name, value in facts.items()))
        self.event("start", command=self.command, settings=self._settings_key(), **facts)
        sweep(self.folder, self.cache)

    def save_settings(self) -> None:
        """Write config.yaml, when the product of these settings is about to be in the folder."""
        save_text(self.folder / "config.yaml", yaml.safe_dump(asdict(self.config), sort_keys=False))

    def _settings_key(self) -> str:
        """Changes when another training is asked for, not when the same one is run elsewhere."""
        settings = asdict(self.config)
        return content_key({name: one for name, one in settings.items() if name not in ELSEWHERE})

    def artefact(self, stage: str, key: str) -> Path:
        """The file a stage leaves, named by the key of what made it."""
        return self.folder / "stages" / f"{stage}-{key}.safetensors"

    def event(self, kind: str, **facts: Any) -> None:
        """Append one JSON line to metrics.jsonl, a new one after half a line that a kill left."""
        if not self.told:
            return
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S"), "event": kind, **facts})
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "metrics.jsonl"
        with path_in_errors(path), path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    line = "\n" + line
            file.write(line.encode() + b"\n")

    @contextmanager
    def stage(self, name: str, images: int | None = None) -> Iterator[None]:
        """Time a stage; its seconds and the peak memory go to the log and to metrics.jsonl.

        The memory is that of the largest process. The beginning goes there too, for the time that
        a killed stage took, and how many images it is about to do, where the stage tells it.
        """
        logger.info("%s%s", name, self._time_left())
        self.event("begin", stage=name, **({} if images is None else {"images": images}))
        start = time.perf_counter()
        yield
        seconds = round(time.perf_counter() - start, 1)
        self.expected.pop(name, None)
        self.event(
            "stage",
            stage=name,
            seconds=seconds,
            peak_memory_mb=peak_memory_mb(),
            workers=worker_count(self.workers, self.config.cluster),
        )
        logger.info("%s took %.1f s, peak memory %d MB", name, seconds, peak_memory_mb())

    def _time_left(self) -> str:
        """In words, after a stage's name; empty where nothing is known."""
        if not self.expected:
            return ""
        minutes = round(sum(self.expected.values()) / 60)
        if not minutes:
            return "; less than a minute left in all"
        return f"; about {minutes} minute{'s' if minutes > 1 else ''} left in all"

    def progress(self, items: Iterable[Any], what: str, total: int) -> Iterator[Any]:
        """The items with a progress bar; twice a minute metrics.jsonl gets the number that is done.

        So the time of a killed stage is known to within half a minute.
        """
        told = time.monotonic()
        for done, item in enumerate(self._progress(items, what, total), start=1):
            yield item
            now = time.monotonic()
            if now - told >= PROGRESS_INTERVAL_S:
                told = now
                self.event("progress", stage=what, done=done, total=total)

    def done_before(self, stage: str, done: int, total: int) -> None:
        """Log how many of a stage's images were already done."""
        logger.info("%s: %d of %d images were already done", stage, done, total)

    def reused(self, name: str, path: Path) -> None:
        """Log that a stage's artefact already existed."""
        logger.info("%s: reused %s", name, path)
        self.expected.pop(name, None)
        self.event("reused", stage=name, artefact=path.name)
