"""The tool, and the same training by two processes of torchrun."""

import json
import os
import shlex
import shutil
import subprocess
import sys

import pytest
from made_classes import write_classes
from paths import ROOT

TOOL = str(ROOT / "tools" / "train_cls.py")
# Dropout's masks are of a process, so that only without it two compute what one does.
FLAGS = shlex.split(
    "--device cpu --workers 1 --data.shorter_side 70 --network.name alexnet --network.levels [1,2] "
    "--network.hidden 16 --network.dropout 0 --training.crop 64 --training.small 56 "
    "--training.epochs 2 --training.batch 7 --training.learning_rate 0.02"
)


def call(root, run, *flags, launcher=(sys.executable,)):
    words = [*launcher, TOOL, "--data.root", str(root), "--run", str(run), *FLAGS, *flags]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(words, capture_output=True, text=True, env=environment, cwd=ROOT)


def epochs_of(run):
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["event"] == "epoch"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = write_classes(tmp_path_factory.mktemp("classes") / "data", train=5, val=3)
    (root / "val" / "red" / "1.png").write_bytes(b"no image")
    shutil.copy(root / "train" / "red" / "4.png", root / "val" / "red" / "2.png")
    return root


def test_two_processes_train_what_one_does(root, tmp_path):
    one = call(root, tmp_path / "one")
    assert one.returncode == 3, one.stderr
    assert "skipped val/red/1.png" in one.stderr
    assert "val: top-1" in one.stdout
    copies = (
        "1 of 9 images in val are copies of images in train, such as val/red/2.png of train/red/4"
    )
    assert copies in one.stderr
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone")
    # Without the two dashes torchrun takes --run for its own --run-path.
    two = call(root, tmp_path / "two", launcher=(*launcher, "--nproc_per_node", "2", "--"))
    # One line of result: the second process writes nothing.
    assert two.stdout.count("val: top-1") == 1, two.stderr
    assert "skipped val/red/1.png" in two.stderr
    assert (tmp_path / "two" / "classifier.safetensors").is_file()
    assert "top-5" not in one.stdout + one.stderr  # of three classes
    names = ("loss", "top1", "val_loss", "val_top1")
    for ours, theirs in zip(epochs_of(tmp_path / "one"), epochs_of(tmp_path / "two"), strict=True):
        assert [ours[name] for name in names] == pytest.approx(
            [theirs[name] for name in names], rel=1e-4
        )
        # Eight images can be read: none counts twice to make the parts equal.
        assert ours["val_top1"] * 8 == pytest.approx(round(ours["val_top1"] * 8))


def test_faults_are_one_sentence(root, tmp_path):
    for flags, said in (
        (["--training.batch", "16"], "--training.batch must be from 1"),
        (["--training.crop", "300"], "crop 300 is larger than Data.shorter_side 70"),
    ):
        done = call(root, tmp_path / "run", *flags)
        assert done.returncode != 0
        assert said in " ".join(done.stderr.split())
        assert "Traceback" not in done.stderr
