"""The time left of a whole training."""

import inspect
import logging
from dataclasses import replace

import pytest
from paths import ROOT

from commands import inspect_data
from commands.cli import parse_config
from commands.inspect_data import OWN_IMAGES
from detection.config import Config
from detection.run import Run
from detection.training.time_left import expected_seconds, remember

STAGES = {
    "windows of train": {"seconds": 50.0, "images": 100},
    "fine-tuning": {"seconds": 60.0, "images": 100},
    "SVMs": {"seconds": 30.0, "images": 100},
}


def test_images_cost_what_they_cost_before(tmp_path):
    remember(tmp_path, Config(), STAGES)
    found = expected_seconds(tmp_path, replace(Config(), run="another", seed=3), 200)
    assert found == {"windows of train": 100.0, "fine-tuning": 60.0, "SVMs": 60.0}
    assert expected_seconds(tmp_path, replace(Config(), scales=1), 200) == {}
    longer = replace(Config(), finetune=replace(Config().finetune, steps=10_000))
    assert expected_seconds(tmp_path, longer, 200)["fine-tuning"] == 120.0


def test_mirrored_images_take_their_time(tmp_path):
    mirrored = replace(Config(), mirrored=True)
    twice = STAGES | {"training windows": {"seconds": 60.0, "images": 200}}
    remember(tmp_path, mirrored, twice)
    found = expected_seconds(tmp_path, mirrored, 50)
    assert found["training windows"] == 30.0
    assert found["windows of train"] == 25.0
    assert found["SVMs"] == 15.0


def test_a_stage_that_did_nothing_keeps_its_time(tmp_path):
    remember(tmp_path, Config(), STAGES)
    again = {"windows of train": {"seconds": 0.1, "images": 0}, "SVMs": STAGES["SVMs"]}
    remember(tmp_path, Config(), again)
    assert expected_seconds(tmp_path, Config(), 100)["windows of train"] == 50.0


@pytest.mark.parametrize("text", ["", "[]", '{"SVMs": 3}', '{"SVMs": {"seconds": "x"}}'])
def test_a_damaged_file_is_ignored(tmp_path, text):
    remember(tmp_path, Config(), STAGES)
    (path,) = (tmp_path / "times").iterdir()
    path.write_text(text)
    assert expected_seconds(tmp_path, Config(), 100) == {}
    remember(tmp_path, Config(), STAGES)
    assert expected_seconds(tmp_path, Config(), 100)["SVMs"] == 30.0


def test_each_stage_logs_the_time_left(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    run = Run(replace(Config(), run=str(tmp_path)))
    run.expected = {"windows": 100.0, "fine-tuning": 60.0, "SVMs": 20.0}
    run.reused("windows", tmp_path / "x")
    for name in ("fine-tuning", "SVMs", "box regression"):
        with run.stage(name):
            pass
    told = [line for line in caplog.messages if "took" not in line and "reused" not in line]
    assert told == [
        "fine-tuning; about 1 minute left in all",
        "SVMs; less than a minute left in all",
        "box regression",
    ]


def test_times_of_inspect_data_serve_both_trainings_of_own_images(tmp_path):
    configs = (OWN_IMAGES, "configs/own_images_quick.yaml")
    told, quick = (parse_config(["--config", str(ROOT / one)]) for one in configs)
    windows = inspect.signature(inspect_data.main).parameters["proposals"].default
    remember(tmp_path, replace(told, proposals=windows), STAGES)
    assert expected_seconds(tmp_path, told, 100)["fine-tuning"] == 60.0
    assert expected_seconds(tmp_path, quick, 100)["fine-tuning"] == 8.0
