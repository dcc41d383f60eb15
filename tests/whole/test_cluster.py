"""A Dask cluster makes the same detector and candidates while each stage loses a worker.

The cluster is a scheduler and two workers in processes of their own. A small training is always
tested; one with the quickstart's settings and one on 300 images of VOC, some 40 minutes on two
cores, if slow tests are asked for.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from threading import Thread

import pytest
from driven_tools import FLAGS, TOOLS, call_of, check_same, files, made_calls, write_small_voc
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
VOC_STAGES = {
    "windows": ("cache/windows/*/*.safetensors", 40),
    "training windows": ("cache/bank/*/*.safetensors", 40),
    "SVMs": ("run/stages/svms-at-64.safetensors", 1),
    "SVMs, later": ("run/stages/svms-at-192.safetensors", 1),
    "windows of the test": ("cache/windows/*/*.safetensors", 320),
    "detection": ("run/test_*/candidates-*/*.safetensors", 20),
}
# Fine-tuning is not distributed, and SVMs on pool5 need none.
SMALL = [*FLAGS, "--data.root", "drawn", "--svm.layers", "[pool5]"]
QUICK = [
    *("--config", "configs/quickstart.yaml", "--data.root", "drawn", "--device", "cpu"),
    *shlex.split("--network.weights random"),
]
OF_VOC = shlex.split(
    "--config configs/voc07_minival.yaml --limit 300 --proposals.method edge_boxes --scales 1 "
    "--precision float32 --device cpu --finetune.hidden 512 --finetune.steps 100 --held_back 0"
)


class Killer(Thread):
    """Kills a worker in each of some stages, as soon as the stage has left its first files."""

    def __init__(self, cluster, folder, stages):
        super().__init__(daemon=True)
        self.cluster, self.folder, self.stages = cluster, folder, stages
        self.killed, self.ended = [], False

    def run(self):
        for stage, (pattern, count) in self.stages.items():
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


def compare(tmp_path, stages, training, testing=None, call=called):
    """Train, and perhaps test, serially and on a cluster; check that files are equal.

    Args:
        tmp_path: folder for everything.
        stages: stages in which a worker is killed, as in STAGES.
        training: flags of the training.
        testing: flags of the test, if any.
        call: runs a tool.

    Returns:
        The number of files compared.
    """
    made = {}
    for name in ("serial", "cluster"):
        folder = tmp_path / name
        where = ["--run", "run", "--data.cache", "cache"]
        tools = {"train_det.py": training, "test_det.py": testing}
        calls = [(tool, *words, *where) for tool, words in tools.items() if words is not None]
        if name == "serial":
            for words in calls:
                call(folder, *words, "--workers", 1)
        else:
            (folder / "logs").mkdir(parents=True)
            with made_cluster(folder / "logs") as cluster:
                killer = Killer(cluster, folder, stages)
                killer.start()
                for words in calls:
                    call(folder, *words, "--cluster", cluster.address)
                killer.ended = True
                killer.join()
            assert killer.killed == [*stages]
        made[name] = {
            path: content
            for path, content in files(folder, "*.safetensors").items()
            if not path.startswith("data/")  # ImageNet's weights, whose header has no fixed order
        }
    check_same(made["serial"], made["cluster"])
    return len(made["serial"])


def draw(tmp_path, write, **images):
    for name in ("serial", "cluster"):
        write(tmp_path / name / "drawn", **images)


def test_drawn_images(tmp_path):
    pytest.importorskip("distributed")
    draw(tmp_path, write_small_voc, train=6, test=0)
    name = "training windows"
    assert compare(tmp_path, {name: STAGES[name]}, SMALL, call=driven) > 12


@pytest.mark.slow
def test_the_quickstart(tmp_path):
    pytest.importorskip("distributed")
    draw(tmp_path, write_synthetic_voc, train=48, test=24, seed=0)
    assert compare(tmp_path, STAGES, QUICK, ["--scales", 1]) > 144


@pytest.mark.slow
def test_voc(tmp_path, voc07_root):
    pytest.importorskip("distributed")
    for name in ("serial", "cluster"):
        (tmp_path / name).mkdir()
    training = [*OF_VOC, "--data.root", voc07_root.parent]
    assert compare(tmp_path, VOC_STAGES, training, ["--scales", 1, "--limit", 100]) > 800
