"""The run folder: what it records, and what can be read back from it."""

import errno
import json
import logging
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import joblib
import pytest
import torch
import yaml

from detection.config import Config
from detection.events import stage_seconds
from detection.machine import environment, peak_memory_mb
from detection.run import Run, silent
from detection.settings.data import Data
from detection.settings.training import Finetune


@pytest.fixture
def run(tmp_path):
    return Run(Config(run=str(tmp_path / "runs/one"), device="cpu"), "train_det.py --seed 0")


def events_of(run):
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]


def written(config):
    """Return the settings as YAML has them, with lists for tuples."""
    return json.loads(json.dumps(asdict(config)))


def test_description(run, caplog):
    caplog.set_level(logging.INFO)
    run.describe()
    settings = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert settings == written(run.config)
    facts = json.loads((run.folder / "environment.json").read_text())
    assert facts.keys() == environment().keys()
    assert f"run {run.folder}: train_det.py --seed 0" in caplog.text
    (start,) = events_of(run)
    assert (start["event"], start["command"]) == ("start", "train_det.py --seed 0")
    assert facts.items() <= start.items()


def test_settings_are_those_that_made_what_is_there(run):
    """A second training that fails does not replace the settings of the first one's detector."""
    run.describe()
    run.detector_path.write_bytes(b"trained")
    other = Run(replace(run.config, scales=1))
    other.describe()
    kept = run.folder / "config.yaml"
    assert yaml.safe_load(kept.read_text()) == written(run.config)
    other.save_settings()
    assert yaml.safe_load(kept.read_text()) == written(other.config)


def test_stages_of_another_training_in_the_folder_do_not_count(run):
    def train(config, **stages):
        again = Run(config)
        again.describe()
        for name, seconds in stages.items():
            again.event("stage", stage=name.replace("_", " "), seconds=seconds)

    whole = replace(run.config, finetune=Finetune(train_from="conv3"))
    train(whole, fine_tuning=10, convolutions=3000)
    assert stage_seconds(run.folder).keys() == {"fine tuning", "convolutions"}
    train(run.config, fine_tuning=20)
    assert stage_seconds(run.folder) == {"fine tuning": {"seconds": 20}}
    train(replace(whole, workers=7, strict=True), SVMs=5)  # the first, elsewhere
    stages = stage_seconds(run.folder)
    assert {name: one["seconds"] for name, one in stages.items()} == {
        **{"fine tuning": 10, "convolutions": 3000, "SVMs": 5}
    }


def test_small_numbers_are_read_back_as_numbers(tmp_path):
    config = Config(run=str(tmp_path), finetune=Finetune(learning_rate=1e-5, weight_decay=1e-10))
    Run(config).describe()
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == written(config)


def test_events_are_lines_of_json(run):
    run.event("svm", objective=0.25, words="a\nb")
    run.event("svm", objective=1)
    first, second = events_of(run)
    assert first.keys() == {"time", "event", "objective", "words"}
    assert (first["objective"], first["words"]) == (0.25, "a\nb")
    assert second["objective"] == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_names_the_file(run):
    run.folder.mkdir(parents=True)
    (run.folder / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"metrics.jsonl cannot be written \(No space left .*"):
        run.event("svm")


def test_stages_are_timed(run, caplog):
    caplog.set_level(logging.INFO)
    with run.stage("SVMs"):
        pass
    with run.stage("box regression"):
        pass
    assert [line.split(" took")[0] for line in caplog.messages] == [
        "SVMs",
        "SVMs",
        "box regression",
        "box regression",
    ]
    stages = stage_seconds(run.folder)
    assert list(stages) == ["SVMs", "box regression"]
    assert 0 <= stages["SVMs"]["seconds"] < 5
    assert 10 < stages["SVMs"]["peak_memory_mb"] <= peak_memory_mb()
    assert stages["SVMs"]["workers"] == run.workers


def test_a_stage_that_fails_has_no_time(run):
    with pytest.raises(RuntimeError), run.stage("SVMs"):
        raise RuntimeError
    assert stage_seconds(run.folder) == {}


def test_reused_stages_keep_the_time_of_their_making(run, caplog):
    caplog.set_level(logging.INFO)
    for seconds in (5.0, 3.0):
        run.event("stage", stage="SVMs", seconds=seconds, peak_memory_mb=9)
    run.reused("SVMs", run.artefact("svms", "ab"))
    assert f"SVMs: reused {run.folder}/stages/svms-ab.safetensors" in caplog.text
    assert stage_seconds(run.folder) == {"SVMs": {"seconds": 3.0, "peak_memory_mb": 9}}
    assert events_of(run)[-1]["artefact"] == "svms-ab.safetensors"


def test_a_killed_stage_counts_with_what_it_took(run, monkeypatch):
    clock = iter(f"2026-11-26T10:0{minute}:00" for minute in range(9))
    monkeypatch.setattr("detection.run.time.strftime", lambda _: next(clock))
    run.event("begin", stage="SVMs")
    run.event("svm", objective=1)
    run.event("start")
    run.event("begin", stage="SVMs")
    run.event("svm", objective=2)
    run.event("svm", objective=3)
    run.event("begin", stage="SVMs")
    run.event("stage", stage="SVMs", seconds=7.5, peak_memory_mb=9, workers=2)
    assert stage_seconds(run.folder)["SVMs"]["seconds"] == 60 + 120 + 7.5
    # A stage that is made again for other windows has only its own time.
    run.event("stage", stage="SVMs", seconds=2.0, peak_memory_mb=8)
    assert stage_seconds(run.folder) == {"SVMs": {"seconds": 2.0, "peak_memory_mb": 8}}


def test_a_stage_counts_the_images_that_it_worked_on(run, monkeypatch):
    clock = iter(f"2026-11-26T10:0{minute}:00" for minute in range(9))
    monkeypatch.setattr("detection.run.time.strftime", lambda _: next(clock))
    run.event("begin", stage="detection", images=100)
    run.event("progress", stage="detection", done=30, total=100)
    run.event("begin", stage="detection", images=60)
    run.event("stage", stage="detection", seconds=90.0, peak_memory_mb=9)
    # Ten more images were done after the last event before the kill; they are not counted.
    found = stage_seconds(run.folder)["detection"]
    assert (found["seconds"], found["images"]) == (60 + 90, 30 + 60)
    run.event("begin", stage="detection", images=8)
    run.event("stage", stage="detection", seconds=5.0, peak_memory_mb=9)
    assert stage_seconds(run.folder)["detection"]["images"] == 8


def test_earlier_work_is_logged_and_is_no_event(run, caplog):
    caplog.set_level(logging.INFO)
    run.done_before("windows", 8, 8)
    assert caplog.messages == ["windows: 8 of 8 images were already done"]
    assert not run.folder.exists()


def test_no_events_yet(tmp_path):
    assert stage_seconds(tmp_path) == {}


def test_a_run_makes_its_folder_when_it_writes(run):
    """A mistyped --run of a test leaves no folder behind."""
    assert (run.detector_path.parent, run.artefact("svms", "ab").parent.parent) == (run.folder,) * 2
    assert not run.folder.parent.exists()
    run.event("start")
    assert [path.name for path in run.folder.iterdir()] == ["metrics.jsonl"]


def test_half_a_line_of_events_is_passed_over(run, caplog):
    """After a kill or full disk cuts a line off, the next event begins a new line."""
    run.event("begin", stage="SVMs")
    path = run.folder / "metrics.jsonl"
    with path.open("ab") as file:
        file.write(b'{"time": "2026-11-26T10:00:00", "event": "st\xff')
    run.event("stage", stage="SVMs", seconds=5.0, peak_memory_mb=9)
    lines = path.read_bytes().split(b"\n")
    assert len(lines) == 4
    assert json.loads(lines[2])["event"] == "stage"
    assert stage_seconds(run.folder)["SVMs"]["seconds"] == 5.0
    assert caplog.messages == [f"{path}: 1 lines are incomplete and ignored"]


def test_what_is_no_event_counts_nothing(run, caplog):
    run.folder.mkdir(parents=True)
    with (run.folder / "metrics.jsonl").open("wb") as file:
        file.write(b"\0" * 100 + b"\n3\nnull\n[]\n{}\n\n")
    assert stage_seconds(run.folder) == {}
    assert "6 lines are incomplete" in caplog.text
    run.event("stage", stage="SVMs", seconds=5.0)
    assert list(stage_seconds(run.folder)) == ["SVMs"]


def test_one_training_at_a_time(run):
    with run.locked():
        run.event("start")  # the lock is of the folder, whatever is written
        with (
            pytest.raises(RuntimeError, match=r"another training is at work in /.*runs/one; wait"),
            Run(run.config).locked(),
        ):
            pass
        with Run(replace(run.config, run=f"{run.config.run}2")).locked():
            pass
    with pytest.raises(KeyError), run.locked():
        raise KeyError
    with run.locked():
        pass


def test_a_file_system_without_locks(run, monkeypatch):
    """NFS fails like this when its lock service does not answer."""

    def fails(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("filelock.FileLock.acquire", fails)
    said = r"runs/one cannot be locked .*\(No locks available\); .* local_lock=flock"
    with pytest.raises(OSError, match=said), run.locked():
        pass


def test_a_killed_training_leaves_no_lock(run):
    program = (
        "import os, signal, sys\n"
        "from detection.config import Config\n"
        "from detection.run import Run\n"
        "with Run(Config(run=sys.argv[1])).locked():\n"
        "    print('locked', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(run.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(RuntimeError, match="another training is at work"), run.locked():
            pass
        other.kill()
        other.wait()
        with run.locked():
            pass


def test_devices(run, monkeypatch):
    def device(name):
        return Run(replace(run.config, device=name)).device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device("auto") == device("cpu") == torch.device("cpu")
    with pytest.raises(RuntimeError, match=r"--device cuda was asked for, but .* no CUDA device"):
        device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device("auto") == device("cuda") == torch.device("cuda")
    assert device("cpu") == torch.device("cpu")


def test_a_cpu_is_shared_by_processes_and_a_gpu_by_threads(run, monkeypatch):
    def made(**changes):
        return Run(replace(run.config, **changes))

    for workers, shared in ((1, True), (2, False)):
        alone = made(workers=workers)
        assert alone.shares_network is shared
        assert list(alone.pool("generator")(joblib.delayed(abs)(-n) for n in range(5))) == [
            *range(5)
        ]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    beside_gpu = made(workers=3, device="cuda")
    assert beside_gpu.shares_network
    calls = (joblib.delayed(lambda: os.getpid())() for _ in range(5))
    assert set(beside_gpu.pool("generator")(calls)) == {os.getpid()}
    assert beside_gpu.pool("generator").n_jobs == 3


def test_progress_is_kept_for_the_time_of_a_killed_stage(run, monkeypatch):
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("detection.run.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("detection.run.PROGRESS_INTERVAL_S", 30)
    assert list(run.progress(range(9), "SVMs", 9)) == list(range(9))
    told = [(event["done"], event["total"]) for event in events_of(run)]
    assert told == [(3, 9), (6, 9), (9, 9)]


def test_paths_and_workers(run, tmp_path):
    assert run.detector_path == tmp_path / "runs/one/detector.safetensors"
    assert run.workers == joblib.cpu_count()
    config = replace(run.config, workers=3, data=Data(cache=str(tmp_path / "cache")))
    assert Run(config).workers == 3
    assert Run(config).cache == tmp_path / "cache"
    assert list(run.progress([1, 2], "words", 2)) == list(silent([1, 2], "", 2)) == [1, 2]


@pytest.mark.parametrize("native", [False, True])
def test_bfloat16_is_not_emulated(native, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(
        "detection.run.native_precision", lambda asked, _: asked if native else "float32"
    )
    run = Run(Config(run=str(tmp_path / "run"), precision="bfloat16"))
    run.describe()
    kept = yaml.safe_load((run.folder / "config.yaml").read_text())["precision"]
    assert kept == run.config.precision == ("bfloat16" if native else "float32")
    assert ("computing in float32" in caplog.text) is not native
