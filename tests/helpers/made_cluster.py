"""A Dask scheduler and workers in separate processes, and jobs that return where they ran."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from paths import ROOT
from threadpoolctl import threadpool_info

PATHS = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])


@dataclass(frozen=True)
class Cluster:
    """A scheduler's address and process id; methods list its workers and wait for them."""

    address: str
    scheduler: int

    def pids(self):
        """Return the process ids of the workers; a nanny restarts a worker that is killed."""
        end = time.monotonic() + 60
        while True:
            try:
                with self._client() as client:
                    client.wait_for_workers(1, timeout=60)
                    return sorted(client.run(os.getpid).values())
            except OSError:  # a worker that was just killed is still on the scheduler's list
                if time.monotonic() > end:
                    raise
                time.sleep(0.5)

    def wait(self, workers):
        """Wait until so many workers are connected."""
        with self._client() as client:
            client.wait_for_workers(workers, timeout=120)

    def _client(self):
        from distributed import Client

        return Client(self.address, timeout=60, set_as_default=False)


@contextmanager
def made_cluster(folder, workers=2, threads=1):
    """Run a cluster on this machine during the block; its logs are in the folder."""
    place = folder / "scheduler.json"
    environment = os.environ | {"PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1"}
    processes = []

    def start(kind, *words):
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *words]
        command += ["--scheduler-file", str(place), "--no-dashboard", "--host", "127.0.0.1"]
        with (folder / f"{kind}{len(processes)}.log").open("w") as log:
            started = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, cwd=folder, start_new_session=True
            )
        processes.append(started)

    try:
        start("scheduler", "--port", "0")
        for _ in range(workers):
            start("worker", "--nthreads", str(threads), "--local-directory", str(folder))
        while not (place.exists() and place.read_text()):
            assert processes[0].poll() is None, (folder / "scheduler0.log").read_text()
            time.sleep(0.05)
        made = Cluster(json.loads(place.read_text())["address"], processes[0].pid)
        if workers:
            made.wait(workers)
        yield made
    finally:
        for process in reversed(processes):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def threads_and_folder():
    """Return the threads of PyTorch, the threads of NumPy, and the folder that a job runs in."""
    import torch  # slow, and other jobs do not need it

    blas = [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]
    return torch.get_num_threads(), max(blas, default=1), str(Path.cwd())


def process_of(number, seconds=0.0):
    """Return the number and the process's id after so many seconds."""
    time.sleep(seconds)
    return number, os.getpid()


def met(folder, count):
    """Return the process's id once ``count`` processes have such a job at the same time."""
    (folder / str(os.getpid())).touch()
    end = time.monotonic() + 60
    while len([*folder.iterdir()]) < count and time.monotonic() < end:
        time.sleep(0.01)
    return os.getpid()


def killing(number, first, parent):
    """Return the number; the process that gets ``first`` is killed unless it is the parent."""
    if number == first and os.getpid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def killing_once(number, first, place):
    """Return the number; the first process that gets ``first`` is killed."""
    if number == first and not place.exists():
        place.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number
