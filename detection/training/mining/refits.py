"""Refits of SVMs: in this process, or several at once in processes of their own.

liblinear has one random state per process, so a process does one refit at a time. Which process
does a refit changes no byte of the SVM.
"""

import logging
import os
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from types import TracebackType
from typing import NamedTuple

from joblib.externals.loky import ProcessPoolExecutor
from numpy.typing import NDArray

from detection.learners.svm import HingeLoss, LinearSVM, fit_svm
from detection.orphans import end_with

# Each takes up to 1.3 GB on pool5. Computed for eight workers, four make mining there 2.6 times
# faster, and eight 3.2 times (docs/decisions.md).
MOST_PROCESSES = 4
# A refit on fewer numbers is done here: VOC's on fc7 of 512 units, 2.5 million, take 0.2 s.
FEW_NUMBERS = 10_000_000

logger = logging.getLogger(__name__)


class Refit(NamedTuple):
    """A refit that was begun."""

    fit: Callable[[], LinearSVM]
    future: Future

    def done(self) -> bool:
        """Whether the result is there."""
        return self.future.done()

    def result(self) -> LinearSVM:
        """The SVM, when the refit is done; if its process was killed, this process repeats it.

        Raises:
            RuntimeError: the solver did not converge.
        """
        try:
            svm: LinearSVM = self.future.result()
        except BrokenProcessPool:
            logger.warning(
                "a process that refits SVMs was killed, perhaps because memory ran out; this "
                "process repeats the refit; fewer --workers need less memory"
            )
            svm = self.fit()
        return svm


class Refits:
    """Begins refits; use it in a ``with`` block, which ends its processes.

    Args:
        workers: refits at once, at most MOST_PROCESSES; with 1, each is done when it is begun.
    """

    def __init__(self, workers: int = 1) -> None:
        self._most = min(workers, MOST_PROCESSES)
        self._running: set[Future] = set()
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Refits":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._executor is not None:
            self._executor.shutdown(kill_workers=True)
            self._executor = None

    @property
    def free(self) -> bool:
        """Whether another refit can be begun."""
        self._running = {each for each in self._running if not each.done()}
        return len(self._running) < self._most

    def begin(self, positives: NDArray, negatives: NDArray, loss: HingeLoss, seed: int) -> Refit:
        """Begin ``fit_svm`` of these arguments, which must not change before it is done.

        Refits on few numbers are done at once, in this process.
        """
        fit = partial(fit_svm, positives, negatives, loss, seed=seed)
        if self._most == 1 or positives.size + negatives.size < FEW_NUMBERS:
            done: Future = Future()
            done.set_result(fit())
            return Refit(fit, done)
        future = self._submitted(fit)
        self._running.add(future)
        return Refit(fit, future)

    def _submitted(self, fit: Callable[[], LinearSVM]) -> Future:
        if self._executor is not None:
            try:
                return self._executor.submit(fit)
            except BrokenProcessPool:  # of the refits before; their results say so
                pass
        self._executor = ProcessPoolExecutor(
            max_workers=self._most, initializer=end_with, initargs=(os.getpid(),)
        )
        return self._executor.submit(fit)

    def wait(self) -> None:
        """Wait until one of the running refits is done, if there are any."""
        running = [each for each in self._running if not each.done()]
        if running:
            wait(running, return_when=FIRST_COMPLETED)
