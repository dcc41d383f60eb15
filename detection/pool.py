"""Where the work on images is done: in this process, in others beside it, or on other machines.

A pool is called with joblib's ``delayed`` jobs and gives their results as they come. Jobs are small
(paths, keys, settings); what a worker needs besides, such as a network, it reads once from a file
named by its key. A job does the same wherever and however often it is done, with one thread, so
what a worker that was killed had in its hands is done again, and no byte depends on the pool.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from itertools import islice
from threading import Lock
from typing import Any, Literal

from joblib import Parallel, effective_n_jobs, parallel_config
from joblib.parallel import BACKENDS, DEFAULT_BACKEND, get_active_backend
from threadpoolctl import threadpool_limits

from detection.cluster import cluster_size, on_cluster
from detection.jobs import Job, elsewhere, with_one_thread
from detection.orphans import end_with

Pool = Callable[[Iterable[Job]], Iterator[Any]]
Order = Literal["generator", "generator_unordered"]
# Jobs of each worker that go to a backend which gives results only when all are done.
PART = 8
# Such a backend and its workers, at most one: Ray's take seconds to start.
_KEPT: dict[Any, Parallel] = {}

logger = logging.getLogger(__name__)


def shared_out(
    workers: int, order: Order, *, cluster: str | None = None, gpu: bool = False
) -> Pool:
    """A pool that does jobs: the named cluster, the caller's backend, or this machine.

    The caller's backend is the one of ``joblib.parallel_config``, if it sets one; for joblib's
    default, loky, only the number of workers counts. On a CPU, processes use the cores better than
    threads. A GPU is used best by threads, which share one network and keep the GPU busy while
    others read images. A single worker without a GPU is this process; it runs each job with one
    thread, so that results are the same as with several workers.

    Args:
        workers: processes of this machine, unless the caller's ``n_jobs`` says another number.
        order: order of the results: that of the jobs, or of their completion.
        cluster: address of a Dask scheduler.
        gpu: whether the jobs' networks run on a GPU.

    Raises:
        RuntimeError: the cluster cannot be used.
    """
    if cluster is not None:
        return partial(on_cluster, cluster, order == "generator")
    if _chosen_backend() is not None:
        return partial(_by_backend, order)
    workers = _asked_for(workers)
    if gpu:
        return Parallel(n_jobs=workers, return_as=order, backend="threading")
    if workers == 1:
        return partial(_alone, order)
    return partial(_by_processes, workers, order)


def works_here(workers: int, *, cluster: str | None = None, gpu: bool = False) -> bool:
    """Whether the jobs of such a pool are done in this process, whose objects they can use."""
    if cluster is not None:
        return False
    chosen = _chosen_backend()
    return gpu or _asked_for(workers) == 1 if chosen is None else _shares_memory(chosen)


def worker_count(workers: int, cluster: str | None = None) -> int:
    """How many workers such a pool has now."""
    if cluster is not None:
        return cluster_size(cluster)
    return _asked_for(workers) if _chosen_backend() is None else effective_n_jobs(None)


def _chosen_backend() -> Any:
    """The backend that the caller has set; None where joblib's default is active, set or not."""
    backend, _ = get_active_backend()
    return None if type(backend) is BACKENDS[DEFAULT_BACKEND] else backend


def _asked_for(workers: int) -> int:
    """How many workers the caller's ``n_jobs`` says, of joblib's default backend; or as given."""
    _, asked = get_active_backend()
    return workers if asked is None else effective_n_jobs(None)


def _shares_memory(backend: Any) -> bool:
    return getattr(backend, "supports_sharedmem", False)


def _alone(order: Order, jobs: Iterable[Job]) -> Iterator[Any]:
    """One after the other here, with one thread for each and all of them between."""
    yield from (with_one_thread(*job) for job in jobs)


def _by_backend(order: Order, jobs: Iterable[Job]) -> Iterator[Any]:
    """By the caller's backend."""
    backend = _chosen_backend()
    if _shares_memory(backend):
        # Threads limit and free BLAS under each other: it is put back when all are done.
        with threadpool_limits(None):
            yield from Parallel(return_as=order)((with_one_thread, job, {}) for job in jobs)
        return
    sent = map(elsewhere, jobs)
    if getattr(backend, "supports_return_generator", False):
        yield from Parallel(return_as=order)(sent)
        return
    while part := list(islice(sent, PART * effective_n_jobs(None))):
        yield from _done(backend, part)


def _done(backend: Any, part: list[Job]) -> list[Any]:
    """The results of some jobs, by workers that live until the caller sets another backend.

    If a worker dies, this process does the jobs again. A job that fails by itself fails here, too,
    with its own error instead of the backend's.
    """
    try:
        if backend not in _KEPT:
            _end_kept()
            _KEPT[backend] = Parallel().__enter__()
        return list(_KEPT[backend](part))
    except Exception as error:
        reason = type(error).__name__
    _end_kept()
    results = [job(*words, **named) for job, words, named in part]
    logger.warning(
        "a worker of the chosen backend was lost (%s); this process did its %d images",
        reason,
        len(part),
    )
    return results


def _end_kept() -> None:
    while _KEPT:
        with suppress(Exception):  # of workers that are lost
            _KEPT.popitem()[1].__exit__(None, None, None)


def _by_processes(workers: int, order: Order, jobs: Iterable[Job]) -> Iterator[Any]:
    """By processes of one thread each.

    If one is killed, for example because memory ran out, the whole pool of joblib is lost: this
    process does the jobs it had taken, and a new pool does the rest. Arguments are always pickled:
    in shared memory they would remain after a kill.
    """
    handed_out = _HandedOut(jobs)
    while True:
        with parallel_config(backend="loky", inner_max_num_threads=1):
            parallel = Parallel(n_jobs=workers, return_as=order, max_nbytes=None)
        try:
            for number, result in parallel(iter(handed_out)):
                del handed_out.waiting[number]
                yield result
            return
        except BrokenProcessPool:
            left = handed_out.taken_back()
        logger.warning(
            "a worker process was killed, perhaps because memory ran out; this process does its "
            "%d images again; fewer --workers need less memory",
            len(left),
        )
        yield from (with_one_thread(*job) for job in left)


class _HandedOut:
    """Jobs that joblib's threads take, with their numbers, and that can be taken back."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self.waiting: dict[int, Job] = {}
        self._jobs = enumerate(jobs)
        self._lock = Lock()
        self._taker = 0

    def __iter__(self) -> Iterator[Job]:
        taker = self._taker
        while True:
            with self._lock:
                if taker != self._taker or (found := next(self._jobs, None)) is None:
                    return
                number, job = found
                self.waiting[number] = job
            yield _numbered, (os.getpid(), number, *job), {}

    def taken_back(self) -> list[Job]:
        """The jobs without a result, in order; whoever took them gets no more."""
        with self._lock:
            self._taker += 1
            left, self.waiting = list(self.waiting.values()), {}
            return left


def _numbered(
    parent: int, number: int, job: Callable, words: tuple, named: dict
) -> tuple[int, Any]:
    end_with(parent)
    return number, job(*words, **named)
