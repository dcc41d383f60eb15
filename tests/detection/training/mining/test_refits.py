"""Refits in other processes, and what becomes of them if a process is killed."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from made_mining import made_mining, made_mining_world
from made_world import LAYERS

from detection.learners.svm import RELEASED, fit_svm
from detection.training.mining import refits as module
from detection.training.mining.refits import Refits


@pytest.fixture
def samples(rng):
    return [
        (rng.random((30, 8)).astype(np.float16) + 0.5, rng.random((60, 8)).astype(np.float16))
        for _ in range(5)
    ]


def bytes_of(svm):
    return svm.weights.tobytes(), svm.bias, svm.negative_scores.tobytes(), svm.objective


def results(refits, samples):
    begun = []
    for positives, negatives in samples:
        while not refits.free:
            refits.wait()
        begun.append(refits.begin(positives, negatives, RELEASED, 3))
    return [bytes_of(each.result()) for each in begun]


def test_this_process_refits_alone_or_if_there_is_little_to_do(samples):
    alone = [bytes_of(fit_svm(*each, seed=3)) for each in samples]
    for workers in (1, 2):
        with Refits(workers) as refits:
            assert results(refits, samples) == alone
            assert refits._executor is None


def test_processes_give_the_same_bytes_and_may_be_killed(samples, monkeypatch, caplog):
    monkeypatch.setattr(module, "FEW_NUMBERS", 0)
    alone = [bytes_of(fit_svm(*each, seed=3)) for each in samples]
    with Refits(2) as refits:
        assert results(refits, samples) == alone
        assert not caplog.messages
        running = refits.begin(*samples[0], RELEASED, 3)
        for process in refits._executor._processes.values():
            os.kill(process.pid, signal.SIGKILL)
        assert bytes_of(running.result()) == alone[0]
        assert results(refits, samples) == alone
    assert refits._executor is None


class OneThread(ThreadPoolExecutor):
    """In place of processes, which take seconds to start."""

    def __init__(self, **settings):
        super().__init__(1)

    def shutdown(self, *, kill_workers):
        super().shutdown()


def test_a_mining_whose_refits_are_done_elsewhere(tmp_path, monkeypatch):
    """Its search is done here, so that only the refits differ."""
    world, found, begun = made_mining_world(tmp_path), [], []

    def executor(**settings):
        begun.append(OneThread(**settings))
        return begun[-1]

    monkeypatch.setattr("detection.run.Run._gpu", True)
    monkeypatch.setattr(module, "FEW_NUMBERS", 0)
    monkeypatch.setattr(module, "ProcessPoolExecutor", executor)
    for workers in (1, 2):
        run = world.run(f"with {workers}", workers=workers)
        svms = made_mining(world, run).train(LAYERS, world.entries, "key")
        found.append({name: each.coef_.tobytes() for name, each in svms.items()})
        assert len(begun) == workers - 1
    assert found[0] == found[1]
    assert begun[0]._shutdown
