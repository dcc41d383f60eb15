"""The commands on a drawn data set: train, train again, test; and a training killed everywhere.

Each call of a tool runs in a process of its own, forked from one that has done the imports: the
imports take longer than the training. A kill is SIGKILL to the process group of the tool, at the
moment when a file is about to take its name, or has just taken it.
"""

import csv
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from detection.data.drawn import draw_voc
from detection.run import stage_seconds

TOOLS = Path(__file__).resolve().parent.parent / "tools"

FLAGS = shlex.split(
    "--device cpu --workers 1 --scales 1 --network.weights random --data.train_split train "
    "--data.test_split test --proposals.selective_search.base_k 400 "
    "--proposals.selective_search.inc_k 400 --proposals.selective_search.max_windows 60 "
    "--finetune.hidden 32 --finetune.steps 20 --finetune.batch 32 "
    "--finetune.pictures 2 --finetune.checkpoint_every 5 --svm.layers [pool5,fc6,fc7] "
    "--svm.checkpoint_every 2 --report.pictures 1"
)

# When a file of this name is about to appear for the n-th time, or just has.
KILLS = {
    "windows": ("*/windows/*.npy", 3, "before"),
    "fine-tuning": ("*/fine-tuning.checkpoint", 2, "after"),
    "the head": ("*/head-*.safetensors", 1, "before"),
    "training windows, between a picture's two files": ("*/bank/*.npy", 2, "after"),
    "SVMs": ("*/svms.checkpoint", 1, "after"),
    "the SVMs' end": ("*/svms-*.safetensors", 1, "before"),
    "the SVMs of one layer": ("*/svms-*.safetensors", 1, "after"),
    "box regression": ("*/box-regression-*.safetensors", 1, "before"),
    "the detector": ("*/detector.safetensors", 1, "before"),
}

DRIVER = """
import json, os, runpy, signal, sys
from fnmatch import fnmatch
from pathlib import Path

tools, calls = sys.argv[1], json.load(sys.stdin)
sys.path.insert(0, tools)
import test_det, train_det
from detection.features.scales import SCALES

SCALES[1] = (240,)  # a tenth of the pixels of 688


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


for call in calls:
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
"""


def call_of(tool, folder, name, *flags, kill=None):
    """A call of a tool; its output goes to files of this name."""
    out, err = (str(folder / f"{name}.{kind}") for kind in ("out", "err"))
    flags = [str(flag) for flag in flags]
    return {"tool": tool, "flags": flags, "kill": kill, "out": out, "err": err}


def made_calls(folder, calls):
    """Make the calls one after the other: each one's status, stdout and stderr."""
    driven = subprocess.run(
        [sys.executable, "-c", DRIVER, str(TOOLS)],
        input=json.dumps(calls),
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert driven.returncode == 0, driven.stderr
    statuses = [int(line) for line in driven.stdout.split()]
    return [
        SimpleNamespace(
            status=status, out=Path(call["out"]).read_text(), err=Path(call["err"]).read_text()
        )
        for status, call in zip(statuses, calls, strict=True)
    ]


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """All calls of this file, by name."""
    folder = tmp_path_factory.mktemp("end_to_end")
    draw_voc(folder / "drawn", train=8, test=4, seed=0)

    def trained(name, run, kill=None):
        paths = ("--data.root", folder / "drawn", "--run", folder / run)
        cache = ("--data.cache", folder / f"{run}_cache")
        return call_of("train_det.py", folder, name, *FLAGS, *paths, *cache, kill=kill)

    rcnn = [*FLAGS, "--data.root", folder / "drawn", "--data.cache", folder / "rcnn_cache"]
    rcnn += ["--run", folder / "rcnn", "--features", "rcnn", "--svm.layers", "[pool5]"]
    rcnn += ["--detection.layer", "pool5", "--proposals.selective_search.max_windows", "5"]
    calls = {
        "nowhere": call_of("train_det.py", folder, "nowhere", "--data.root", folder / "none"),
        "train": trained("train", "straight"),
        "again": trained("again", "straight"),
        "test": call_of(
            "test_det.py",
            folder,
            "test",
            *("--run", folder / "straight", "--report.json", folder / "first.json"),
        ),
        "retest": call_of("test_det.py", folder, "retest", "--run", folder / "straight"),
        "other cell": call_of(
            "test_det.py",
            folder,
            "other_cell",
            *("--run", folder / "straight", "--detection.layer", "softmax", "--no-bbox"),
            *("--report.csv", folder / "table.csv", "--report.json", folder / "cell.json"),
        ),
        "train rcnn": call_of("train_det.py", folder, "train_rcnn", *rcnn),
        "test rcnn": call_of("test_det.py", folder, "test_rcnn", "--run", folder / "rcnn"),
    }
    for number, (place, kill) in enumerate(KILLS.items()):
        calls[place] = trained(f"killed{number}", "killed", kill)
    calls["after kills"] = trained("after_kills", "killed")
    found = dict(zip(calls, made_calls(folder, list(calls.values())), strict=True))
    return SimpleNamespace(folder=folder, **{"calls": found})


def files(folder, pattern):
    """Bytes of the files of a pattern, by path; without the hidden ones a killed writer leaves."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob(pattern)
        if not path.name.startswith(".")
    }


def test_training_and_testing(ended):
    train, test = ended.calls["train"], ended.calls["test"]
    assert train.status == 0, train.err
    stages, detector = train.out.split("in all", 1)
    assert [line.split("  ")[0] for line in stages.splitlines()] == [
        *(
            "stage",
            "windows of train by selective_search",
            "fine-tuning",
            "training windows",
            "SVMs",
        ),
        "box regression",
    ]
    assert f"detector {ended.folder}/straight/detector.safetensors sha256 " in detector
    assert test.status == 0, test.err
    assert test.out.splitlines()[-1].startswith("mAP ")
    assert 0 <= float(test.out.split()[-1]) <= 1
    results = json.loads((ended.folder / "first.json").read_text())
    assert (results["layer"], results["bbox"]) == ("fc7", True)
    assert f"mAP {results['map']:.4f}" == test.out.splitlines()[-1]
    for line in (ended.folder / "straight/metrics.jsonl").read_text().splitlines():
        assert {"time", "event"} <= json.loads(line).keys()
    kinds = ["box-regression", "head", "svms-fc6", "svms-fc7", "svms-pool5"]
    made = files(ended.folder / "straight/stages", "*")
    assert sorted(name.rpartition("-")[0] for name in made) == kinds


def test_a_second_call_reuses_every_stage(ended):
    again = ended.calls["again"]
    assert again.status == 0, again.err
    assert again.err.count("8 of 8 pictures were done before") == 2
    layers = [f"SVMs on {layer}" for layer in ("pool5", "fc6", "fc7")]
    for stage in ("fine-tuning", *layers, "box regression"):
        assert f"{stage}: reused" in again.err
    retest = ended.calls["retest"]
    assert "selective_search, float32: 4 of 4 pictures were done before" in retest.err
    assert retest.out == ended.calls["test"].out


def test_another_cell_needs_no_network(ended):
    cell = ended.calls["other cell"]
    assert cell.status == 0, cell.err
    assert "selective_search, float32: 4 of 4 pictures were done before" in cell.err
    facts = json.loads((ended.folder / "cell.json").read_text())
    results = (ended.folder / "straight/test_test_1scales/results.json").read_text()
    assert facts == json.loads(results)
    assert (facts["layer"], facts["bbox"]) == ("softmax", False)
    assert facts["candidates"].startswith("candidates-softmax-")
    assert f"mAP {facts['map']:.4f}" == cell.out.splitlines()[-1]
    with (ended.folder / "table.csv").open(newline="") as file:
        rows = {(row["layer"], row["bbox"]): row["map"] for row in csv.DictReader(file)}
    layers = ("pool5", "fc6", "fc7", "fc6+fc7", "softmax")
    assert list(rows) == [(layer, bbox) for layer in layers for bbox in ("false", "true")]
    assert float(rows["softmax", "false"]) == round(facts["map"], 4)
    first = ended.calls["test"].out.splitlines()[-1]
    assert f"mAP {float(rows['fc7', 'true']):.4f}" == first


def test_rcnns_features(ended):
    train, test = ended.calls["train rcnn"], ended.calls["test rcnn"]
    assert train.status == 0, train.err
    made = files(ended.folder / "rcnn/stages", "*")
    assert sorted(name.rpartition("-")[0] for name in made) == ["box-regression", "svms-pool5"]
    assert test.status == 0, test.err
    facts = json.loads((ended.folder / "rcnn/test_test_1scales/results.json").read_text())
    assert facts["features"]["features"] == "rcnn"
    assert facts["layer"] == "pool5"
    assert f"mAP {facts['map']:.4f}" == test.out.splitlines()[-1]


def test_a_second_call_keeps_the_times_of_the_first(ended):
    folder = ended.folder / "straight"
    events = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    first: dict[str, float] = {}
    for event in events:
        if event["event"] == "stage":
            first.setdefault(event["stage"], event["seconds"])
    for stage in (
        *(f"windows of {split} by selective_search" for split in ("train", "test")),
        "training windows",
    ):
        assert first[stage] > 0
        assert stage_seconds(folder)[stage]["seconds"] == first[stage]


def test_a_wrong_call_is_refused_in_a_line(ended):
    nowhere = ended.calls["nowhere"]
    assert nowhere.status == 1
    (line,) = nowhere.err.splitlines()
    assert line.startswith("error: ")
    assert str(ended.folder / "none") in line
    assert nowhere.out == ""


def test_a_training_killed_everywhere_ends_the_same(ended):
    for place in KILLS:
        call = ended.calls[place]
        assert call.status == -9, (place, call.err)
        assert call.out == ""
    for place, words in (
        ("fine-tuning", "windows: 2 of 8 pictures were done before"),
        ("the head", "fine-tuning goes on from step 10"),
        ("training windows, between a picture's two files", "fine-tuning goes on from step 15"),
        ("SVMs", "training windows: 1 of 8 pictures were done before"),
        ("the SVMs' end", "SVMs go on from picture 2"),
        ("the SVMs of one layer", "SVMs go on from picture 8"),
        ("box regression", "SVMs on pool5: reused"),
        ("the detector", "SVMs on fc7: reused"),
        ("after kills", "box regression: reused"),
    ):
        assert words in ended.calls[place].err
    last = ended.calls["after kills"]
    assert last.status == 0, last.err
    straight, killed = ended.folder / "straight", ended.folder / "killed"
    assert files(straight / "stages", "*") == files(killed / "stages", "*")
    assert last.out.split()[3] == ended.calls["train"].out.split()[3]
    one, other = (folder / "detector.safetensors" for folder in (straight, killed))
    assert one.read_bytes() == other.read_bytes()
    for kind, count in (("windows", 8), ("bank", 16)):
        one = files(ended.folder / "straight_cache" / kind, "*.np[yz]")
        if kind == "windows":
            one = {name: rows for name, rows in one.items() if "train" in name}
        assert one == files(ended.folder / "killed_cache" / kind, "*.np[yz]")
        assert len(one) == count
