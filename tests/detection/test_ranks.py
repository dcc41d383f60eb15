"""Any number of torchrun processes, also after a restart, fine-tunes like one process."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext, suppress
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from made_cluster import PATHS
from paths import ROOT
from ranked_training import Ended, train
from safetensors.torch import load_file

from detection.ranks import ALONE, Ranks, joined, rank_of_process

PROGRAM = ROOT / "tests/helpers/ranked_training.py"


def by_processes(count, *trainings):
    """Run trainings one after the other in processes of torchrun; return the completed process."""
    words = [json.dumps([str(folder), *others]) for folder, *others in trainings]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]
    return subprocess.run(
        [sys.executable, *launcher, PROGRAM, *words],
        env=os.environ | {"PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


def by_one(folder, layers, end=0):
    with pytest.raises(Ended) if end else nullcontext():
        train(ALONE, folder, layers, end)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Run all trainings of this file once, because torchrun's start takes longer than each."""
    root = tmp_path_factory.mktemp("ranks")
    names = ("fc", "conv4", "two", "mixed", "killed", "three")
    made = SimpleNamespace(**{name: root / name for name in names})
    by_one(made.fc, "fc")
    by_one(made.conv4, "conv4")
    # Both processes are killed in the second training.
    assert by_processes(2, (made.two, "fc"), (made.mixed, "conv4", 8)).returncode != 0
    assert (made.mixed / "checkpoint").exists()
    by_one(made.mixed, "conv4", end=14)
    # One of two processes is killed, and the other ends, too.
    trainings = [(made.mixed, "conv4"), (made.killed, "fc", 14, 1)]
    assert by_processes(2, *trainings).returncode != 0
    assert (made.killed / "checkpoint").exists()
    shutil.copytree(made.killed, made.three)
    by_one(made.killed, "fc")
    done = by_processes(3, (made.three, "fc"))
    assert done.returncode == 0, done.stderr
    return made


def compare(one, other, names):
    """Check that two trainings have the same losses and weights."""
    events = [json.loads((folder / "events.json").read_text()) for folder in (one, other)]
    for ours, theirs in zip(*events, strict=True):
        for name in names:
            assert theirs[name] == pytest.approx(ours[name], rel=1e-4), name
    ours, theirs = (load_file(folder / "weights.safetensors") for folder in (one, other))
    assert theirs.keys() == ours.keys()
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-3, atol=1e-5)


def test_two_processes_learn_what_one_does(folders):
    compare(folders.fc, folders.two, ["train_loss", "held_back_loss", "held_back_error"])


def test_any_number_of_processes_resumes(folders):
    """Convolutions are trained by two processes, then by one, then by two."""
    compare(folders.conv4, folders.mixed, ["held_back_loss", "held_back_error"])


def test_one_process_of_two_is_killed(folders):
    """The other ends, too; one or three processes resume and learn what one does undisturbed."""
    for resumed in (folders.killed, folders.three):
        compare(folders.fc, resumed, ["held_back_loss", "held_back_error"])


WAITING = """
import signal, torch
from detection.ranks import joined
signal.signal(signal.SIGTERM, lambda *_: None)
print("joining", flush=True)
with joined(torch.device("cpu")):
    pass
"""


def test_a_process_that_waits_for_the_others_can_be_ended():
    """torchrun ends it in this way when another process fails before joining."""
    own = {"PYTHONPATH": PATHS, "RANK": "0", "WORLD_SIZE": "2"}
    own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING], env=os.environ | own, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "joining\n"
        for _ in range(100):
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
                break
        process.kill()
    assert process.returncode == -signal.SIGTERM


def test_one_process_is_alone(monkeypatch):
    with joined(torch.device("cpu")) as ranks:
        assert ranks == ALONE
        assert ranks.of_first("ours") == "ours"
        with ranks.first_before_others(), ranks.parted_cores():
            assert ranks.total(torch.ones(2)).tolist() == [1, 1]
    monkeypatch.setenv("RANK", "3")
    assert rank_of_process() == 3


def test_threads_come_back_after_an_error(threads):
    def fails():
        with replace(ALONE, count=2).parted_cores():
            torch.set_num_threads(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert torch.get_num_threads() == 2


def test_how_many_processes_share_a_machine(monkeypatch):
    assert ALONE.beside == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert Ranks(3, 16, torch.device("cpu")).beside == 8  # on two machines
