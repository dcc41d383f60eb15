"""A Dask scheduler and two workers, each in a network namespace whose link can be cut.

Unlike a killed process, a cut link is not noticed at either end. This needs Linux and root.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ground import ROOT

WORKERS = ("one", "two")
NAMES = ("scheduler", *WORKERS)
NET = f"198.18.{os.getpid() % 250}"  # of RFC 2544, for measurements
ADDRESS = f"tcp://{NET}.2:8786"
BRIDGE = f"sp{os.getpid()}"


def missing() -> str:
    """Return why no namespaces can be made here, or an empty string."""
    if sys.platform != "linux" or shutil.which("ip") is None or os.geteuid():
        return "no links are cut: that needs Linux, its command ip, and root"
    made = subprocess.run(["ip", "netns", "add", _space("try")], capture_output=True, text=True)
    if made.returncode:
        return f"no links are cut: no network namespace can be made ({made.stderr.strip()})"
    _ip(f"netns del {_space('try')}")
    return ""


@contextmanager
def apart(folder: Path) -> Iterator[str]:
    """Give the address of a scheduler with two workers; their logs are in the new folder."""
    folder.mkdir()
    processes = []
    try:
        _ip(f"link add {BRIDGE} type bridge")
        _ip(f"addr add {NET}.1/24 dev {BRIDGE}")
        _ip(f"link set {BRIDGE} up")
        for number, name in enumerate(NAMES, start=2):
            _ip(f"netns add {_space(name)}")
            _ip(f"link add {_link(name)} type veth peer name eth0 netns {_space(name)}")
            _ip(f"link set {_link(name)} master {BRIDGE} up")
            _ip(f"-n {_space(name)} addr add {NET}.{number}/24 dev eth0")
            for device in ("lo", "eth0"):
                _ip(f"-n {_space(name)} link set {device} up")
            processes.append(_started(name, folder))
        yield ADDRESS
    finally:
        for process in processes:
            process.terminate()  # a nanny ends its worker
        time.sleep(2)
        for name in NAMES:
            listed = subprocess.run(["ip", "netns", "pids", _space(name)], capture_output=True)
            for pid in map(int, listed.stdout.split()):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for words in (["link", "del", _link(name)], ["netns", "del", _space(name)]):
                subprocess.run(["ip", *words], capture_output=True)
        subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True)


def set_link(name: str, state: str) -> None:
    """Cut the link of a scheduler or worker ('down'), or restore it ('up')."""
    _ip(f"link set {_link(name)} {state}")


def _started(name: str, folder: Path) -> subprocess.Popen:
    words = ["dask_scheduler", "--port", ADDRESS.rpartition(":")[2], "--no-dashboard"]
    if name in WORKERS:
        words = ["dask_worker", ADDRESS, "--nthreads", "1", "--no-dashboard"]
        words += ["--local-directory", str(folder)]
    words[:1] = [sys.executable, "-m", f"distributed.cli.{words[0]}"]
    command = ["ip", "netns", "exec", _space(name), *words]
    ours = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (folder / f"{name}.log").open("w") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, start_new_session=True, env=ours
        )


def _space(name: str) -> str:
    return f"{BRIDGE}-{name}"


def _link(name: str) -> str:
    return f"{BRIDGE}{name[:3]}"  # at most 15 letters


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)
