"""Batches that are read while the ones before are computed."""

import os
import signal
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import torch

from detection.orphans import end_with
from detection.training.finetuning.batches import View, WindowBatches

# Of a reader process.
_batches: WindowBatches


class Prefetcher:
    """Draws batches in order, and reads the next ones meanwhile.

    One reader is a thread, several are processes. As threads, several readers made the GPU wait,
    probably because they share the interpreter's lock with its thread (docs/decisions.md).

    Args:
        batches: gives the views.
        readers: number of threads or processes, and of batches that they read ahead.
    """

    def __init__(self, batches: WindowBatches, readers: int) -> None:
        self.readers = readers
        self._coming: dict[int, Future[list[View]]] = {}
        alone = readers == 1
        self._executor: Executor = ThreadPoolExecutor(1) if alone else _processes(batches, readers)
        self._draw: Callable[[int], list[View]] = batches.draw if alone else _draw_in_process

    def __enter__(self) -> "Prefetcher":
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(cancel_futures=True)

    def draw(self, step: int) -> list[View]:
        """``batches.draw(step)``."""
        for each in range(step, step + self.readers + 1):
            if each not in self._coming:
                self._coming[each] = self._executor.submit(self._draw, each)
        return self._coming.pop(step).result()


def _processes(batches: WindowBatches, readers: int) -> ProcessPoolExecutor:
    """Processes that draw from the batches; a GPU's own process must not be forked."""
    context = get_context("spawn")
    return ProcessPoolExecutor(
        readers, context, initializer=_become_reader, initargs=(batches, os.getpid())
    )


def _become_reader(batches: WindowBatches, training: int) -> None:
    """Keep the batches for ``_draw_in_process``, on one core, for as long as the training lives."""
    global _batches
    _batches = batches
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the training, which ends this.
    end_with(training)


def _draw_in_process(step: int) -> list[View]:
    return _batches.draw(step)
