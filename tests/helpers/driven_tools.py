"""Calls of the tools as a user makes them, and what they leave.

Each call runs in its own process, forked from one that has done the imports for all tests, because
the imports take longer than a small training. A kill is SIGKILL to the tool's process group, just
before or after a file gets its name.
"""

import atexit
import json
import os
import shlex
import subprocess
import sys
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from paths import TOOLS

from detection.data.synthetic import scene
from detection.data.synthetic.dataset import write_synthetic_voc

FLAGS = shlex.split(
    "--device cpu --workers 1 --scales 1 --network.weights random --data.train_split train "
    "--data.test_split test --proposals.selective_search.base_k 400 "
    "--proposals.selective_search.inc_k 400 --proposals.selective_search.max_windows 60 "
    "--finetune.hidden 32 --finetune.steps 20 --finetune.batch 32 "
    "--finetune.images 2 --finetune.checkpoint_every 5 --svm.layers [pool5,fc6,fc7] "
    "--svm.checkpoint_every 2 --report.images 1"
)

DRIVER = """
import json, os, runpy, shutil, signal, sys
from fnmatch import fnmatch
from pathlib import Path

tools = sys.argv[1]
sys.path.insert(0, str(Path(tools).parent))
from commands import export_det, make_proposals, test_det, train_cls, train_det
from detection.features.scales import SCALES
from detection.training.finetuning import pyramid_network, shuffle_buffer
import cv2, torchvision.transforms.v2  # what the tools import when they need it

SCALES[1] = (160,)  # a twentieth of the pixels of 688
shuffle_buffer.STEPS_HELD = 8  # of 100; so within these trainings images leave it, too
pyramid_network.MOMENT_IMAGES = 4  # of 64, more than these trainings have


def kill_at(pattern, number, when):
    replace, seen = Path.replace, []

    def replacing(self, target):
        seen.extend([target] * fnmatch(str(target), pattern))
        if len(seen) == number and when == "before":
            os.killpg(0, signal.SIGKILL)
        replace(self, target)
        if len(seen) == number:
            os.killpg(0, signal.SIGKILL)

    Path.replace = replacing


for line in sys.stdin:
    folder, calls = json.loads(line)
    os.chdir(folder)
    for call in calls:
        if call.get("swap"):
            target, source = call["swap"]
            shutil.move(target, target + ".whole")
            shutil.copy(source, target)
        child = os.fork()
        if child == 0:
            os.setsid()
            for number, name in ((1, "out"), (2, "err")):
                os.dup2(os.open(call[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            if call["kill"]:
                kill_at(*call["kill"])
            sys.argv = [call["tool"], *call["flags"]]
            status = 0
            try:
                runpy.run_path(f"{tools}/{call['tool']}", run_name="__main__")
            except SystemExit as ended:
                status = ended.code or 0
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        if call.get("swap"):
            shutil.move(target + ".whole", target)
"""


def write_small_voc(root, train, test):
    """Write synthetic images of a sixth of the pixels, so that windows take less time."""
    with small_scenes():
        write_synthetic_voc(root, train=train, test=test, seed=0)


@contextmanager
def small_scenes():
    """Make the synthetic images of the block small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scene, "IMAGE_SIDES", (120, 170))
        patch.setattr(scene, "OBJECT_SIDES", (28, 100))
        yield


def call_of(tool, folder, name, *flags, kill=None):
    """Return a call of a tool; its output goes to files of this name.

    The caller may add ``swap``, two files: during the call, the second replaces the first.
    """
    out, err = (str(folder / f"{name}.{kind}") for kind in ("out", "err"))
    flags = [str(flag) for flag in flags]
    return {"tool": tool, "flags": flags, "kill": kill, "out": out, "err": err}


def made_calls(folder, calls, threads="1", cores="1"):
    """Make the calls one after the other; return the status, stdout and stderr of each.

    Args:
        folder: the working directory of the calls.
        calls: from ``call_of``.
        threads: OMP_NUM_THREADS; None leaves it unset.
        cores: how many cores the tools may use, because other tests run beside them; None for all.
    """
    driver = _driver(threads, cores)
    driver.stdin.write(json.dumps([str(folder), calls]) + "\n")
    driver.stdin.flush()
    statuses = [int(driver.stdout.readline()) for _ in calls]
    return [
        SimpleNamespace(
            status=status, out=Path(call["out"]).read_text(), err=Path(call["err"]).read_text()
        )
        for status, call in zip(statuses, calls, strict=True)
    ]


@cache
def _driver(threads, cores):
    environment = {n: value for n, value in os.environ.items() if n != "OMP_NUM_THREADS"}
    # Threads that wait for each other must not keep other tests from the cores.
    environment["OMP_WAIT_POLICY"] = "PASSIVE"
    if threads is not None:
        environment["OMP_NUM_THREADS"] = threads
    if cores is not None:
        environment["LOKY_MAX_CPU_COUNT"] = cores
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(TOOLS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    atexit.register(driver.communicate)
    return driver


def check_same(serial, shared_out):
    """Check that files, by path, are equal; only workers elsewhere need one of the network."""
    more = {name for name in shared_out if name not in serial}
    assert more == {name for name in shared_out if name.startswith("run/stages/trunk-")}
    for name, content in serial.items():
        assert shared_out[name] == content, name


def files(folder, pattern):
    """Return the bytes of files by path, without the hidden files that killed writers leave."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob(pattern)
        if path.is_file() and not path.name.startswith(".")
    }
