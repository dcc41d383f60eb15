"""The commands on synthetic data: train, train again, test; kills at every stage."""

import csv
import json
from types import SimpleNamespace

import pytest
from driven_tools import FLAGS, call_of, files, made_calls, write_small_voc

from detection.events import stage_seconds

# Kill a training before or after a file of this name appears for the n-th time.
KILLS = {
    "windows": ("*/windows/*.safetensors", 3, "before"),
    "fine-tuning": ("*/fine-tuning.checkpoint", 2, "after"),
    "the head": ("*/head-*.safetensors", 1, "before"),
    "training windows": ("*/bank/*.safetensors", 2, "before"),
    "SVMs": ("*/svms.checkpoint", 1, "after"),
    "the SVMs' end": ("*/svms-*.safetensors", 1, "before"),
    "the SVMs of one layer": ("*/svms-*.safetensors", 1, "after"),
    "box regression": ("*/box-regression-*.safetensors", 1, "before"),
    "the detector": ("*/detector.safetensors", 1, "before"),
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Make all calls of this file; return their folder and the calls by name."""
    folder = tmp_path_factory.mktemp("end_to_end")
    write_small_voc(folder / "drawn", train=8, test=4)

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
            *(
                "--run",
                folder / "straight",
                "--detection.layer",
                "softmax",
                "--detection.bbox=false",
            ),
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
    assert again.err.count("8 of 8 images were already done") == 2
    layers = [f"SVMs on {layer}" for layer in ("pool5", "fc6", "fc7")]
    for stage in ("fine-tuning", *layers, "box regression"):
        assert f"{stage}: reused" in again.err
    retest = ended.calls["retest"]
    assert "selective_search, float32: 4 of 4 images were already done" in retest.err
    assert retest.out == ended.calls["test"].out


def test_another_cell_needs_no_network(ended):
    cell = ended.calls["other cell"]
    assert cell.status == 0, cell.err
    assert "selective_search, float32: 4 of 4 images were already done" in cell.err
    facts = json.loads((ended.folder / "cell.json").read_text())
    results = (ended.folder / "straight/test_test_1scales/softmax/results.json").read_text()
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
    facts = json.loads((ended.folder / "rcnn/test_test_1scales/pool5+bb/results.json").read_text())
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
        ("fine-tuning", "windows: 2 of 8 images were already done"),
        ("the head", "fine-tuning resumes at step 10"),
        ("training windows", "fine-tuning resumes at step 15"),
        ("SVMs", "training windows: 1 of 8 images were already done"),
        ("the SVMs' end", "SVMs resume at image 2"),
        ("the SVMs of one layer", "SVMs resume at image 8"),
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
    for kind, count in (("windows", 8), ("bank", 8)):
        one = files(ended.folder / "straight_cache" / kind, "*.safetensors")
        if kind == "windows":
            one = {name: rows for name, rows in one.items() if "train" in name}
        assert one == files(ended.folder / "killed_cache" / kind, "*.safetensors")
        assert len(one) == count
