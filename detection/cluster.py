"""Jobs by the workers of a Dask scheduler, which may die."""

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import islice
from typing import Any

from detection.jobs import Job, elsewhere, with_one_thread

# Jobs that each worker has or waits for; what they give is held until it is taken.
AHEAD = 2
ADDRESS = re.compile(r"(tcp|tls|ucx|wss?)://.+:\d+")
CONNECT_S = 10
WORKERS_S = 30

logger = logging.getLogger(__name__)


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
            f"{start}, or leave out --cluster"
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


def cluster_size(address: str) -> int:
    """How many workers a Dask scheduler has now.

    Raises:
        RuntimeError: as ``connected``, or the scheduler is lost.
    """
    client = connected(address)
    with _loss_told(client, address):
        return sum(client.ncores().values())


def on_cluster(address: str, ordered: bool, jobs: Iterable[Job]) -> Iterator[Any]:
    """By the workers of a Dask scheduler, each of which has few jobs at a time.

    Not by joblib's Dask backend, which waits for ever for a job that ended its workers, and takes
    in results as fast as they come (joblib 1.6). Dask gives what a dead worker had to others.

    Raises:
        RuntimeError: the scheduler is lost.
    """
    client, jobs = connected(address), iter(jobs)
    from distributed import wait

    waiting: dict[Any, Job] = {}
    try:
        while True:
            room = AHEAD * max(1, cluster_size(address)) - len(waiting)
            for job in islice(jobs, max(room, 0)):
                call, words, _ = elsewhere(job)
                with _loss_told(client, address):
                    waiting[client.submit(call, *words, pure=False)] = job
            if not waiting:
                return
            asked = [*islice(waiting, 1)] if ordered else [*waiting]
            with _loss_told(client, address), client.as_current():
                future = next(iter(wait(asked, return_when="FIRST_COMPLETED").done))
                failed = future.status == "error"
                result = None if failed else future.result()
            if failed:
                result = _done_again(future, waiting[future])
            del waiting[future]
            yield result
    finally:
        with suppress(Exception):  # of a scheduler that is lost
            client.cancel(list(waiting))


def _done_again(future: Any, job: Job) -> Any:
    """A job that ended its workers, done here; one that failed raises its error."""
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        logger.warning("%s; this process does the image again", " ".join(str(error).split()))
        return with_one_thread(*job)


@contextmanager
def _loss_told(client: Any, address: str) -> Iterator[None]:
    """Where only Dask is called, what it raises of a lost scheduler becomes one sentence.

    Raises:
        RuntimeError: the scheduler is lost; the next call makes a new client.
    """
    from distributed import CancelledError

    try:
        yield
    except Exception as error:
        if client.status == "running" and not isinstance(error, CancelledError | OSError):
            raise
        connected.cache_clear()
        raise RuntimeError(
            f"the Dask scheduler at {address} is lost; finished work is kept: start the scheduler "
            "and workers again, then run the same command"
        ) from error
