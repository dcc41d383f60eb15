"""A Dask cluster makes the same detector and candidates while each stage loses a worker.

The cluster is a scheduler and two workers in processes of their own. A small training is always
tested, one with the quickstart's settings if slow tests are asked for.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from functools import partial
from threading import Thread

import pytest
from driven_tools import FLAGS, TOOLS, call_of, files, made_calls, write_small_voc
from made_cluster import made_cluster

from detection.data.synthetic.dataset import write_synthetic_voc

# One worker is killed when so many files of this pattern have appeared during a stage.
STAGES = {
    "windows": ("cache/windows/*/*.safetensors", 2),
    "training windows": ("cache/bank/*/*.safetensors", 1),
    "SVMs": ("run/stages/svms-at-4.safetensors", 1),
    "windows of the test": ("cache/windows/*/*test*.safetensors", 1),
    "detection": ("run/test_*/candidates-*/*.safetensors", 1),
}
# Fine-tuning is not distributed, and SVMs on pool5 need none.
SMALL = [*FLAGS, "--data.root", "drawn", "--svm.layers", "[pool5]"]
QUICK = [
    *("--config", "configs/quickstart.yaml", "--data.root", "drawn", "--device", "cpu"),
    *shlex.split("--network.weights random"),
]


class Killer(Thread):
    """Kills a worker in each stage, as soon as the stage has left its first files."""

    def __init__(self, cluster, folder, stages):
        super().__init__(daemon=True)
        self.cluster, self.folder, self.stages = cluster, folder, stages
        self.killed, self.ended = [], False

    def run(self):
        for stage in self.stages:
            pattern, count = STAGES[stage]
            pids = self.cluster.pids()  # asked before, as a small stage is over soon
            while len([*self.folder.glob(pattern)]) < count:
                if self.ended:
                    return
                time.sleep(0.01)
            os.kill(pids[len(self.killed) % len(pids)], signal.SIGKILL)
            self.killed.append(stage)


def called(folder, tool, *flags):
    """Run a tool in a process of its own."""
    done = subprocess.run(
        [sys.executable, TOOLS / tool, *map(str, flags)], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def driven(folder, tool, *flags):
    """Run a tool in a fork of the driver, at a small scale."""
    (done,) = made_calls(folder, [call_of(tool, folder, tool, *flags)])
    assert done.status == 0, done.err


VOC = partial(write_synthetic_voc, seed=0)


def compare(tmp_path, settings, train, test, stages, call=called, draw=VOC):
    """Train, and test if there are images, serially and on a cluster; check that files are equal.

    Args:
        tmp_path: folder for everything.
        settings: flags of the training.
        train: number of images to train on.
        test: number of images to test on.
        stages: stages in which a worker is killed.
        call: runs a tool.
        draw: writes the synthetic images.
    """
    made = {}
    for name in ("serial", "cluster"):
        folder = tmp_path / name
        draw(folder / "drawn", train=train, test=test)
        where = ["--run", "run", "--data.cache", "cache"]
        words = [*settings, *where]
        if name == "serial":
            call(folder, "train_det.py", *words, "--workers", 1)
            if test:
                call(folder, "test_det.py", *where, "--scales", 1, "--workers", 1)
        else:
            (folder / "logs").mkdir()
            with made_cluster(folder / "logs") as cluster:
                killer = Killer(cluster, folder, stages)
                killer.start()
                call(folder, "train_det.py", *words, "--cluster", cluster.address)
                words = [*where, "--scales", 1, "--cluster", cluster.address]
                if test:
                    call(folder, "test_det.py", *words)
                killer.ended = True
                killer.join()
            assert killer.killed == stages
        made[name] = files(folder, "*.safetensors")
    one, other = made.values()
    # Only the workers of the cluster need a file of the network.
    assert {name for name in other if name not in one} == {
        name for name in other if name.startswith("run/stages/trunk-")
    }
    assert len(one) > 2 * (train + test)
    for name, content in one.items():
        assert other[name] == content, name


def test_drawn_images(tmp_path):
    pytest.importorskip("distributed")
    stages = ["training windows"]
    compare(tmp_path, SMALL, train=6, test=0, stages=stages, call=driven, draw=write_small_voc)


@pytest.mark.slow
def test_the_quickstart(tmp_path):
    pytest.importorskip("distributed")
    compare(tmp_path, QUICK, train=48, test=24, stages=[*STAGES])
