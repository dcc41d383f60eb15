"""Where jobs run; a process that dies changes no result."""

import os
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from joblib import delayed, parallel_config
from made_cluster import (
    killing,
    made_cluster,
    met,
    process_of,
    threads_and_folder,
)

from detection.cluster import connected
from detection.pool import _end_kept, shared_out, worker_count, works_here

ORDERS = ["generator", "generator_unordered"]


@pytest.mark.parametrize("order", ORDERS)
def test_work_has_one_thread_wherever_it_is_done(threads, order):
    """The process that takes the results keeps all its threads, also between jobs."""
    here = str(Path.cwd())
    for workers in (1, 2):
        found = shared_out(workers, order)(delayed(threads_and_folder)() for _ in range(3))
        between = []
        for each in found:
            assert each == (1, 1, here)
            between.append(threads_and_folder())
        assert between == [(2, 2, here)] * 3


@pytest.mark.parametrize("workers", [1, 2])
def test_results_and_errors_are_those_of_the_jobs(workers):
    pool = shared_out(workers, "generator")
    assert list(pool(delayed(pow)(2, exp=n) for n in range(4))) == [1, 2, 4, 8]
    with pytest.raises(ValueError, match="invalid literal"):
        list(pool([delayed(int)("x")]))
    assert [list(pool([delayed(abs)(-n)])) for n in range(2)] == [[0], [1]]  # called twice


def kind_of(array):
    return type(array).__name__


def test_large_arguments_are_not_put_into_shared_memory():
    large = np.zeros(1_000_000)
    assert list(shared_out(2, "generator")([delayed(kind_of)(large)])) == ["ndarray"]


def test_what_a_killed_process_had_is_done_here(caplog):
    """This is what happens when the system runs out of memory."""
    jobs = (delayed(killing)(number, 19, os.getpid()) for number in range(20))
    assert sorted(shared_out(2, "generator_unordered")(jobs)) == [*range(20)]
    (said,) = caplog.messages
    assert "a worker process was killed" in said
    assert "fewer --workers need less memory" in said


def test_processes_killed_one_by_one_lose_nothing(caplog):
    """Results keep their order."""

    def jobs():
        for number in range(40):
            yield delayed(killing)(number, number // 20 * 20 + 3, os.getpid())

    assert list(shared_out(2, "generator")(jobs())) == [*range(40)]
    assert 1 <= len(caplog.messages) <= 2


@pytest.mark.parametrize("order", ORDERS)
def test_threads_that_the_caller_asked_for(threads, order):
    """Each job has one thread there, too, and the caller has all its threads afterwards."""
    here = str(Path.cwd())
    with parallel_config(backend="threading", n_jobs=3):
        assert works_here(2)
        assert worker_count(2) == 3
        pool = shared_out(2, order)
        found = list(pool(delayed(process_of)(number) for number in range(9)))
        told = list(pool(delayed(threads_and_folder)() for _ in range(9)))
    assert sorted(found) == [(number, os.getpid()) for number in range(9)]
    assert {each[0] for each in told} == {1}
    assert threads_and_folder() == (2, 2, here)


def test_processes_that_the_caller_asked_for():
    with parallel_config(backend="multiprocessing", n_jobs=2):
        assert not works_here(1)
        found = list(shared_out(1, "generator")(delayed(process_of)(n, 0.05) for n in range(6)))
    assert [number for number, _ in found] == [*range(6)]
    assert os.getpid() not in {process for _, process in found}


class Rays(joblib.parallel.ThreadingBackend):
    """A backend that, like Ray's, gives results only when all are there, and shares no memory."""

    supports_sharedmem = False
    supports_return_generator = False
    started = 0

    def configure(self, *words, **named):
        type(self).started += 1
        return super().configure(*words, **named)


@pytest.fixture
def rays(monkeypatch):
    monkeypatch.setitem(joblib.parallel.BACKENDS, "rays", Rays)
    monkeypatch.setattr(Rays, "started", 0)
    yield
    _end_kept()


@pytest.mark.usefixtures("rays")
def test_workers_of_a_backend_live_until_another_is_chosen():
    """Ray's take seconds to start, and mining shares out its images block by block."""
    for _ in range(2):
        with parallel_config(backend="rays", n_jobs=2):
            for _ in range(3):
                found = shared_out(1, "generator")(delayed(pow)(n, 2) for n in range(20))
                assert list(found) == [n**2 for n in range(20)]
    assert Rays.started == 2


def failing_once(number, first, place):
    """Return the number; the first process that gets ``first`` fails as if its worker had died."""
    if number == first and not place.exists():
        place.touch()
        raise OSError("the worker died")
    return number


@pytest.mark.usefixtures("rays")
def test_what_a_lost_worker_of_a_backend_had_is_done_here(tmp_path, caplog):
    """A job's own error stays what it is."""
    with parallel_config(backend="rays", n_jobs=2):
        pool = shared_out(1, "generator")
        jobs = (delayed(failing_once)(n, 3, tmp_path / "failed") for n in range(20))
        assert list(pool(jobs)) == [*range(20)]
        with pytest.raises(ValueError, match="invalid literal"):
            list(pool([delayed(int)("x")]))
    (said,) = caplog.messages
    assert "was lost (OSError); this process did its 16 images" in said


@pytest.mark.parametrize("named", [{"backend": "loky"}, {}])
def test_the_number_of_workers_that_the_caller_asked_for(named, tmp_path):
    """``n_jobs`` replaces --workers, whether joblib's own backend is named or not."""
    with parallel_config(n_jobs=3, **named):
        assert worker_count(2) == 3
        assert not works_here(1)
        others = set(shared_out(1, "generator")(delayed(met)(tmp_path, 3) for _ in range(3)))
        assert works_here(1, gpu=True)
        assert shared_out(1, "generator", gpu=True).n_jobs == 3
    assert len(others) == 3
    assert os.getpid() not in others
    with parallel_config(n_jobs=1, **named):
        assert works_here(2)
        found = list(shared_out(2, "generator")(delayed(process_of)(n) for n in range(3)))
    assert {process for _, process in found} == {os.getpid()}


def test_joblibs_own_backend_without_a_number():
    with parallel_config(backend="loky"):
        assert worker_count(2) == 2
        assert not works_here(2)


def test_nothing_asked_for():
    assert works_here(1)
    assert not works_here(2)
    assert works_here(2, gpu=True)
    assert worker_count(3) == 3
    pool = shared_out(2, "generator", gpu=True)
    assert {each for _, each in pool(delayed(process_of)(n) for n in range(3))} == {os.getpid()}
    assert joblib.parallel.get_active_backend()[1] is None


def test_without_dask(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    connected.cache_clear()
    with pytest.raises(RuntimeError, match=r"--cluster needs Dask, .*-detection\[cluster]'"):
        list(shared_out(2, "generator", cluster="tcp://127.0.0.1:1")([delayed(abs)(1)]))


@pytest.fixture
def cluster(tmp_path):
    pytest.importorskip("distributed")
    (tmp_path / "cluster").mkdir()
    with made_cluster(tmp_path / "cluster") as made:
        yield made.address


def test_no_scheduler(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("detection.cluster.CONNECT_S", 1)
    with pytest.raises(RuntimeError, match=r"no Dask scheduler can be reached at tcp://127\.0"):
        connected("tcp://127.0.0.1:1")
    for address in ("7", "scheduler:8786", "nonsense://x:1"):
        with pytest.raises(ValueError, match=f"such as tcp://scheduler:8786; got {address}"):
            connected(address)


def on_cluster(program, *words):
    """Return the lines that a program prints, and its stderr; its Dask client ends with it."""
    done = subprocess.run(
        [sys.executable, "-c", HEAD + program, *map(str, words)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1], done.stderr


HEAD = """
import logging, os, sys
from pathlib import Path
from joblib import delayed
from made_cluster import *
from detection.pool import *
logging.basicConfig()
cluster, *words = sys.argv[1:]
def pool(order): return shared_out(2, order, cluster=cluster)
"""


@pytest.fixture(autouse=True)
def _paths(monkeypatch):
    from made_cluster import PATHS

    monkeypatch.setenv("PYTHONPATH", PATHS)


def test_the_workers_of_a_cluster(cluster, tmp_path, monkeypatch):
    """Each worker does some jobs, with one thread, in the caller's folder; results may be ordered.

    The caller's own client works, too. At last workers are killed: the job of a killed one is done
    by another, and a job that kills one after the other is done by the calling process.
    """
    monkeypatch.chdir(tmp_path)
    said, err = on_cluster(
        """
from distributed import Client
from joblib import parallel_config
print(works_here(1, cluster=cluster), worker_count(9, cluster))
found = list(pool("generator")(delayed(process_of)(n, 0.05) for n in range(20)))
print([n for n, _ in found] == [*range(20)], len({each for _, each in found} - {os.getpid()}))
found = list(pool("generator_unordered")(delayed(process_of)(n, seconds=0.02) for n in range(9)))
print(sorted(n for n, _ in found) == [*range(9)])
print(set(pool("generator")(delayed(threads_and_folder)() for _ in range(4))))
try: list(pool("generator")([delayed(int)("x")]))
except ValueError as error: print(error)
with Client(cluster) as client, parallel_config(backend="dask", client=client):
    print(works_here(1), worker_count(9))
    found = list(shared_out(1, "generator")(delayed(process_of)(n, 0.3) for n in range(6)))
    print([n for n, _ in found] == [*range(6)], os.getpid() in {each for _, each in found})
    print(set(shared_out(1, "generator")(delayed(threads_and_folder)() for _ in range(4))))
place = Path(words[0])
jobs = (delayed(killing_once)(number, 3, place) for number in range(12))
print(list(pool("generator")(jobs)) == [*range(12)])
jobs = (delayed(killing)(number, 3, os.getpid()) for number in range(12))
print(sorted(pool("generator_unordered")(jobs)) == [*range(12)])
""",
        cluster,
        tmp_path / "killed",
    )
    *plain, where, error = said[:5]
    assert plain == ["False 2", "True 2", "True"]
    assert where == str({(1, 1, str(tmp_path))})
    assert "invalid literal" in error
    assert said[5:8] == ["False 2", "True False", where]
    assert said[8:] == ["True", "True"]
    assert "this process does the image again" in err


def test_a_cluster_whose_scheduler_is_killed(tmp_path):
    """Each error is one line: while waiting for results, after Dask gave up, and in a new call."""
    pytest.importorskip("distributed")
    (tmp_path / "other").mkdir()
    with (
        made_cluster(tmp_path, workers=1) as made,
        made_cluster(tmp_path / "other", workers=1) as other,
    ):
        said, _ = on_cluster(
            """
import detection.cluster, signal, time
detection.cluster.CONNECT_S = 5
def killed(number, jobs, seconds):
    cluster, scheduler = words[2 * number : 2 * number + 2]
    found = shared_out(2, "generator_unordered", cluster=cluster)(jobs)
    next(found)
    os.kill(int(scheduler), signal.SIGKILL)
    time.sleep(seconds)
    try: print(len(list(found)))
    except RuntimeError as error: print(error)
    try: worker_count(1, cluster)
    except RuntimeError as error: print(error)
killed(0, (delayed(process_of)(n, 0.5) for n in range(20)), 0)
killed(1, (delayed(process_of)(n) for n in range(20)), 12)
""",
            *("", made.address, made.scheduler, other.address, other.scheduler),
        )
    first, first_again, second, second_again = said
    for address, line in ((made.address, first), (other.address, second)):
        assert line.startswith(f"the Dask scheduler at {address} is lost; finished work is kept")
    for line in (first_again, second_again):
        assert line.startswith("no Dask scheduler can be reached")


def test_workers_with_threads_are_refused(tmp_path):
    pytest.importorskip("distributed")
    with made_cluster(tmp_path, workers=1, threads=2) as made:
        said, _ = on_cluster(
            "try: list(pool('generator')([]))\nexcept RuntimeError as error: print(error)",
            made.address,
        )
    assert "has 2 threads" in said[0]
    assert f"dask worker {made.address} --nthreads 1" in said[0]
