"""Several processes of torchrun fine-tune as one does, whatever their number at each start."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from made_cluster import PATHS
from paths import ROOT
from safetensors.torch import load_file

from detection.ranks import ALONE, Ranks, joined, rank_of_process

PROGRAM = ROOT / "tests/helpers/ranked_training.py"


def trained(folder, layers, processes, end=0, dying=-1):
    """Losses and weights; None where a process, or all, was killed on the way."""
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
        launcher += [str(processes)]
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [*launcher, PROGRAM, folder, layers, str(end), str(dying)],
        env=os.environ | {"PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if end:
        assert done.returncode != 0
        return None
    assert done.returncode == 0, done.stderr
    events = json.loads((folder / "events.json").read_text())
    return events, load_file(folder / "weights.safetensors")


def compare(one, other, names):
    for ours, theirs in zip(one[0], other[0], strict=True):
        for name in names:
            assert theirs[name] == pytest.approx(ours[name], rel=1e-4), name
    assert other[1].keys() == one[1].keys()
    for name, value in one[1].items():
        torch.testing.assert_close(other[1][name], value, rtol=1e-3, atol=1e-5)


def test_two_processes_learn_what_one_does(tmp_path):
    one, two = (trained(tmp_path / str(count), "fc", count) for count in (1, 2))
    compare(one, two, ["train_loss", "held_back_loss", "held_back_error"])


def test_any_number_of_processes_goes_on(tmp_path):
    """Where convolutions are trained: two, then one, then two."""
    one, mixed = trained(tmp_path / "one", "conv4", 1), tmp_path / "mixed"
    assert trained(mixed, "conv4", 2, end=8) is None
    assert (mixed / "checkpoint").exists()
    assert trained(mixed, "conv4", 1, end=14) is None
    compare(one, trained(mixed, "conv4", 2), ["held_back_loss", "held_back_error"])


def test_one_process_of_two_is_killed(tmp_path):
    """The other ends, too; one resumes, or three, and learn what one does undisturbed."""
    whole, one, three = (tmp_path / name for name in ("whole", "one", "three"))
    assert trained(one, "fc", 2, end=14, dying=1) is None
    assert (one / "checkpoint").exists()
    shutil.copytree(one, three)
    undisturbed = trained(whole, "fc", 1)
    for folder, processes in ((one, 1), (three, 3)):
        resumed = trained(folder, "fc", processes)
        compare(undisturbed, resumed, ["held_back_loss", "held_back_error"])


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
