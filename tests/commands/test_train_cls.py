"""The tool, and the same training by two processes of torchrun."""

import json
import os
import shlex
import shutil
import subprocess
import sys

import pytest
from driven_tools import call_of, made_calls
from made_classes import write_classes
from paths import ROOT

TOOL = str(ROOT / "tools" / "train_cls.py")
# Each process draws its own dropout masks: two compute what one does only without dropout.
FLAGS = shlex.split(
    "--device cpu --workers 1 --data.shorter_side 70 --network.name alexnet --network.levels [1,2] "
    "--network.hidden 16 --network.dropout 0 --training.crop 64 --training.small 56 "
    "--training.epochs 2 --training.batch 7 --training.learning_rate 0.02"
)


def words_of(root, run, *flags):
    return ["--data.root", str(root), "--run", str(run), *FLAGS, *flags]


def by_two(*words):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    # Without the two dashes torchrun takes --run for its own --run-path.
    launcher += ["--nproc_per_node", "2", "--", TOOL]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*launcher, *words], capture_output=True, text=True, env=environment, cwd=ROOT
    )


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
    words = words_of(root, tmp_path / "one")
    (one,) = made_calls(tmp_path, [call_of("train_cls.py", tmp_path, "one", *words)])
    assert one.status == 3, one.err
    assert "skipped val/red/1.png" in one.err
    assert "val: top-1" in one.out
    copies = (
        "1 of 9 images in val are copies of images in train, such as val/red/2.png of train/red/4"
    )
    assert copies in one.err
    two = by_two(*words_of(root, tmp_path / "two"))
    # There is one line of results: the second process writes nothing.
    assert two.stdout.count("val: top-1") == 1, two.stderr
    assert "skipped val/red/1.png" in two.stderr
    assert (tmp_path / "two" / "classifier.safetensors").is_file()
    assert "top-5" not in one.out + one.err  # there are three classes
    names = ("loss", "top1", "val_loss", "val_top1")
    for ours, theirs in zip(epochs_of(tmp_path / "one"), epochs_of(tmp_path / "two"), strict=True):
        assert [ours[name] for name in names] == pytest.approx(
            [theirs[name] for name in names], rel=1e-4
        )
        # Eight images can be read, and none of them counts twice.
        assert ours["val_top1"] * 8 == pytest.approx(round(ours["val_top1"] * 8))


def test_faults_are_one_sentence(root, tmp_path):
    flags, said = zip(
        (["--training.batch", "16"], "--training.batch must be from 1"),
        (["--training.crop", "300"], "crop 300 is larger than Data.shorter_side 70"),
        strict=True,
    )
    words = [words_of(root, tmp_path / "run", *each) for each in flags]
    calls = [call_of("train_cls.py", tmp_path, f"{n}", *each) for n, each in enumerate(words)]
    for sentence, done in zip(said, made_calls(tmp_path, calls), strict=True):
        assert done.status != 0
        assert sentence in " ".join(done.err.split())
        assert "Traceback" not in done.err
