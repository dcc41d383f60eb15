"""Where the work on images is done: in this process, in others beside it, or on other machines.

A pool is called with joblib's ``delayed`` jobs and gives their results as they come. Jobs are small
(paths, keys, settings); what a worker needs besides, such as a network, it reads once from a file
named by its key. A job does the same wherever and however often it is done, with one thread, so
what a worker that was killed had in its hands is done again, and no byte depends on the pool.
"""

import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from joblib import Parallel, effective_n_jobs, parallel_config
from joblib.parallel import BACKENDS, DEFAULT_BACKEND, get_active_backend
from threadpoolctl import threadpool_limits

from detection.machine import one_thread

# A function, its positional and its named arguments, as joblib's ``delayed`` gives them.
Job = tuple[Callable, tuple, dict]
Pool = Callable[[Iterable[Job]], Iterator[Any]]
Order = Literal["generator", "generator_unordered"]
# Jobs that each worker of a cluster has or waits for; what they give is held until it is taken.
AHEAD = 2
# Jobs of each worker that go to a backend which gives results only when all are done.
PART = 8
ADDRESS = re.compile(r"(tcp|tls|ucx|wss?)://.+:\d+")
CONNECT_S = 10
WORKERS_S = 30

logger = logging.getLogger(__name__)


def shared_out(
    workers: int, order: Order, *, cluster: str | None = None, gpu: bool = False
) -> Pool:
    """What does jobs: the cluster if one is named, the caller's backend, or this machine.

    The caller's backend is what ``joblib.parallel_config`` says, where it says something. This
    machine's processes use its cores better than threads do; a GPU is used best by threads, which
    keep it busy while others read images, and share one network. One worker beside no GPU is this
    process, which then has one thread for each job, so that it computes what several would.

    Args:
        workers: of this machine.
        order: of the results, the jobs' or that of their completion.
        cluster: address of a Dask scheduler.
        gpu: the jobs' networks run on one.

    Raises:
        RuntimeError: the cluster cannot be used.
    """
    if cluster is not None:
        return partial(_on_cluster, cluster, order == "generator")
    if _chosen_backend() is not None:
        return partial(_by_backend, order)
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
    return gpu or workers == 1 if chosen is None else _shares_memory(chosen)


def worker_count(workers: int, cluster: str | None = None) -> int:
    """How many workers such a pool has now."""
    if cluster is not None:
        return sum(connected(cluster).ncores().values())
    return workers if _chosen_backend() is None else effective_n_jobs(None)


def _chosen_backend() -> Any:
    """The backend that the caller has set; None where joblib's default is active."""
    backend, _ = get_active_backend()
    return None if type(backend) is BACKENDS[DEFAULT_BACKEND] else backend


def _shares_memory(backend: Any) -> bool:
    return getattr(backend, "supports_sharedmem", False)


def _alone(order: Order, jobs: Iterable[Job]) -> Iterator[Any]:
    """One after the other here, with one thread for each and all of them between."""
    yield from (_with_one_thread(*job) for job in jobs)


def _by_backend(order: Order, jobs: Iterable[Job]) -> Iterator[Any]:
    """By the caller's backend."""
    backend = _chosen_backend()
    if _shares_memory(backend):
        # Threads limit and free BLAS under each other: it is put back when all are done.
        with threadpool_limits(None):
            yield from Parallel(return_as=order)((_with_one_thread, job, {}) for job in jobs)
        return
    sent = map(_elsewhere, jobs)
    if getattr(backend, "supports_return_generator", False):
        yield from Parallel(return_as=order)(sent)
        return
    with Parallel() as parallel:  # Ray's, for one, whose processes live as long
        while some := list(islice(sent, PART * effective_n_jobs(None))):
            yield from parallel(some)


def _by_processes(workers: int, order: Order, jobs: Iterable[Job]) -> Iterator[Any]:
    """By processes of one thread each.

    Where one is killed, as by a system that is out of memory, all of joblib's pool is lost: what
    it had in its hands is done here, the rest by a new one. Arguments are pickled, however large:
    mapped to shared memory, they would stay there after a kill.
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
            "a worker process was killed, as by a system that is out of memory; %d images are "
            "done again, here; fewer --workers need less memory",
            len(left),
        )
        yield from (_with_one_thread(*job) for job in left)


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
            yield _numbered, (number, *job), {}

    def taken_back(self) -> list[Job]:
        """The jobs without a result, in order; whoever took them gets no more."""
        with self._lock:
            self._taker += 1
            left, self.waiting = list(self.waiting.values()), {}
            return left


def _numbered(number: int, job: Callable, words: tuple, named: dict) -> tuple[int, Any]:
    return number, job(*words, **named)


def _with_one_thread(job: Callable, words: tuple, named: dict) -> Any:
    with one_thread():
        return job(*words, **named)


def _elsewhere(job: Job) -> Job:
    """The job as another machine does it, where relative paths are those of this process."""
    # In one object: joblib would put larger arguments into one worker's memory, and lose the job
    # with that worker.
    return _in_folder, (str(Path.cwd()), partial(_with_one_thread, *job)), {}


def _in_folder(folder: str, job: Callable[[], Any]) -> Any:
    """Do a job with relative paths from a folder.

    Raises:
        RuntimeError: the folder is not there.
    """
    if str(Path.cwd()) != folder:
        try:
            os.chdir(folder)
        except OSError as error:
            raise RuntimeError(
                f"a worker on {os.uname().nodename} does not see {folder} ({error.strerror}); "
                "images, caches and runs must lie on a file system that all machines have at the "
                "same place"
            ) from error
    return job()


@lru_cache
def connected(address: str) -> Any:
    """The client of a Dask scheduler that has a worker, kept for this process.

    Raises:
        ValueError: no address of a scheduler.
        RuntimeError: Dask is not installed, the scheduler cannot be reached or has no workers, or
            a worker has several threads.
    """
    if not ADDRESS.fullmatch(address):
        raise ValueError(
            f"--cluster is the address of a Dask scheduler, such as tcp://scheduler:8786; got "
            f"{address}"
        )
    try:
        from distributed import Client
    except ImportError as error:
        raise RuntimeError(
            "--cluster needs Dask, which is not installed; run: pip install "
            "'sppnet-detection[cluster]'"
        ) from error
    start = f"'dask worker {address} --nthreads 1' on each machine, a worker for each core"
    try:
        # Results come from the worker that has them, not through the scheduler.
        client = Client(address, timeout=CONNECT_S, direct_to_workers=True, set_as_default=False)
    except OSError as error:
        raise RuntimeError(
            f"no Dask scheduler can be reached at {address} ({error}); start 'dask scheduler' and "
            f"{start}, or leave --cluster out"
        ) from error
    try:
        client.wait_for_workers(1, timeout=WORKERS_S)
    except TimeoutError as error:
        raise RuntimeError(
            f"the Dask scheduler at {address} has no workers; start {start}"
        ) from error
    if most := [count for count in client.ncores().values() if count > 1]:
        raise RuntimeError(
            f"a worker of the Dask scheduler at {address} has {max(most)} threads, which share "
            f"liblinear's and PyTorch's state; start {start}"
        )
    return client


def _on_cluster(address: str, ordered: bool, jobs: Iterable[Job]) -> Iterator[Any]:
    """By the workers of a Dask scheduler, each of which has few jobs at a time.

    Not by joblib's Dask backend, which waits for ever for a job that ended its workers, and takes
    in results as fast as they come (joblib 1.6). Dask gives what a dead worker had to others.

    Raises:
        RuntimeError: the scheduler is lost.
    """
    client, jobs = connected(address), iter(jobs)
    from distributed import CancelledError, KilledWorker, wait

    waiting: dict[Any, Job] = {}
    try:
        while True:
            room = AHEAD * max(1, worker_count(0, address)) - len(waiting)
            for job in islice(jobs, max(room, 0)):
                call, words, _ = _elsewhere(job)
                waiting[client.submit(call, *words, pure=False)] = job
            if not waiting:
                return
            future = next(iter(waiting))
            if not ordered:
                with client.as_current():
                    done = wait([*waiting], return_when="FIRST_COMPLETED").done
                    future = next(iter(done))
            try:
                result = future.result()
            except KilledWorker as error:
                logger.warning("%s; the image is done again, here", " ".join(str(error).split()))
                result = _with_one_thread(*waiting[future])
            del waiting[future]
            yield result
    except CancelledError as error:
        raise RuntimeError(
            f"the Dask scheduler at {address} is lost; what is done is kept: start it again, with "
            "workers, and run the same command again"
        ) from error
    finally:
        client.cancel(list(waiting))
