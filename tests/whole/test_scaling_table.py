"""The model of cost: distributed work, work of one process, and constant work."""

import importlib.util
import json

import pytest
from paths import ROOT

spec = importlib.util.spec_from_file_location("scaling_table", ROOT / "tools/scaling_table.py")
scaling_table = importlib.util.module_from_spec(spec)
spec.loader.exec_module(scaling_table)


def made_run(folder, workers=1):
    stages = [
        ("windows of train by selective_search", 100.0, 50),
        ("fine-tuning", 400.0, None),
        ("SVMs", 60.0, 50),
        ("box regression", 5.0, None),
    ]
    events = []
    for name, seconds, images in stages:
        begun = {} if images is None else {"images": images}
        events.append({"event": "begin", "stage": name, **begun})
        if name == "SVMs":
            events += [{"event": "svm", "seconds": 5.0}] * 2
        one = {"seconds": seconds, "peak_memory_mb": 1, "workers": workers}
        events.append({"event": "stage", "stage": name, **one})
    folder.mkdir()
    lines = [json.dumps({"time": "2026-11-28T00:00:00", **event}) for event in events]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_costs_and_what_is_predicted(tmp_path, capsys):
    scaling_table.main((made_run(tmp_path / "run"),), images=(50, 500), workers=(1, 10, 100))
    said = capsys.readouterr().out.splitlines()
    assert "| windows of train by selective_search | 2.000 | 0.000 | 0 |" in said
    assert "| fine-tuning | 0.000 | 0.000 | 400 |" in said
    assert "| SVMs | 1.000 | 0.200 | 0 |" in said
    assert "| box regression | 0.000 | 0.100 | 0 |" in said
    # The time predicted for one worker and the same images is the measured one.
    assert f"| 50 | 1 | {565 / 3600:.2f} | fine-tuning | 71% |" in said
    assert f"| 500 | 10 | {(400 + 100 + 100 + 50) / 3600:.2f} | fine-tuning | 62% |" in said
    assert f"| 500 | 100 | {(400 + 10 + 100 + 50) / 3600:.2f} | fine-tuning | 71% |" in said


def test_the_memory_of_runs_side_by_side(tmp_path):
    runs = [made_run(tmp_path / "small"), made_run(tmp_path / "large")]
    events = (runs[1] / "metrics.jsonl").read_text().splitlines()
    large = [line.replace('"peak_memory_mb": 1', '"peak_memory_mb": 2345') for line in events[:-1]]
    (runs[1] / "metrics.jsonl").write_text("\n".join(large))
    assert scaling_table.memory(runs) == [
        "| stage | small | large |",
        "|---|---|---|",
        "| windows of train by selective_search | 1 | 2,345 |",
        "| fine-tuning | 1 | 2,345 |",
        "| SVMs | 1 | 2,345 |",
        "| box regression | 1 | - |",
    ]


def test_mining_keeps_no_more_workers_busy_than_a_block_has_images():
    mining = scaling_table.Cost("SVMs", shared=1.0, most=32)
    assert mining.seconds(320, 32) == mining.seconds(320, 1000) == 10


def test_runs_that_tell_nothing_are_refused(tmp_path):
    with pytest.raises(ValueError, match="was done by 2 workers"):
        scaling_table.main((made_run(tmp_path / "run", workers=2),))
    with pytest.raises(ValueError, match="has no stages"):
        scaling_table.main((tmp_path,))
