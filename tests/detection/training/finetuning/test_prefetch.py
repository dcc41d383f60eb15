"""Batches prefetched by a thread or processes: the same, in order; no process is left."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from made_batches import made_batches, made_records, same_views
from paths import ROOT
from recorded_batches import RecordedBatches

from detection.training.finetuning.prefetch import Prefetcher


class Recorded:
    """Batches that record their steps, and set an event when a step is drawn."""

    def __init__(self):
        self.steps = []
        self.was_drawn = [threading.Event() for _ in range(20)]

    def draw(self, step):
        self.steps.append(step)
        self.was_drawn[step].set()
        return [step]


def test_one_reader_is_a_thread_one_step_ahead():
    batches = Recorded()
    with Prefetcher(batches, 1) as ahead:
        for step in range(5, 9):
            assert ahead.draw(step) == [step]
            # While this step is computed, only the next one is read.
            assert batches.was_drawn[step + 1].wait(30)
            assert batches.steps == list(range(5, step + 2))


def test_no_thread_is_left_behind():
    before = threading.active_count()
    with Prefetcher(Recorded(), 1) as ahead:
        ahead.draw(0)
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_processes_draw_the_same_in_the_same_order(tmp_path):
    batches = made_batches(made_records(tmp_path))
    # joblib may keep processes of an earlier test.
    before = set(multiprocessing.active_children())
    with Prefetcher(batches, 2) as ahead:
        for step in range(3, 7):
            assert same_views(ahead.draw(step), batches.draw(step))
    assert set(multiprocessing.active_children()) <= before


def test_processes_draw_a_step_once_and_no_further_ahead_than_they_are_many(tmp_path):
    batches = RecordedBatches(tmp_path / "steps")
    with Prefetcher(batches, 2) as ahead:
        drawn = [ahead.draw(step) for step in range(9)]
    assert [step for step, _ in drawn] == list(range(9))
    assert os.getpid() not in {process for _, process in drawn}
    steps = [int(step) for step in batches.file.read_text().split()]
    assert len(set(steps)) == len(steps)
    assert set(range(9)) <= set(steps) <= set(range(11))


def test_an_image_that_cannot_be_read_ends_its_own_step(tmp_path):
    with Prefetcher(RecordedBatches(tmp_path / "steps", broken=2), 2) as ahead:
        assert [ahead.draw(step)[0] for step in (0, 1)] == [0, 1]
        with pytest.raises(ValueError, match=r"^image of step 2$"):
            ahead.draw(2)


TRAINING = """
import os, signal, sys
from pathlib import Path
from recorded_batches import RecordedBatches
from detection.training.finetuning.prefetch import Prefetcher

if __name__ == "__main__":
    with Prefetcher(RecordedBatches(Path(sys.argv[1])), 2) as ahead:
        print(ahead.draw(0)[1], flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
def test_readers_end_with_a_killed_training(tmp_path):
    script = tmp_path / "training.py"
    script.write_text(TRAINING)
    folders = [str(ROOT / "tests/helpers"), str(ROOT)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders)}
    # The training writes to files: a reader that outlived it would keep a pipe open for ever.
    with (tmp_path / "reader").open("w") as out, (tmp_path / "errors").open("w") as errors:
        command = [sys.executable, str(script), str(tmp_path / "steps")]
        training = subprocess.run(command, stdout=out, stderr=errors, env=environment, timeout=100)
    assert training.returncode == -signal.SIGKILL, (tmp_path / "errors").read_text()
    reader = int((tmp_path / "reader").read_text())
    deadline = time.monotonic() + 30
    while is_alive(reader) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(reader)


def is_alive(process):
    """Whether the process exists and is not a zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
