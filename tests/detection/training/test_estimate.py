"""The estimated time of a training, from a few of its images."""

import logging
from dataclasses import replace

import pytest
from driven_tools import FLAGS, write_small_voc

from commands.cli import parse_config
from detection.data.reading import read_dataset
from detection.features.scales import SCALES
from detection.training import estimate
from detection.training.estimate import StageTime, estimate_seconds
from detection.training.finetuning import shuffle_buffer


def test_items_cost_alike_after_the_first():
    """A stage takes 5 s before the first of its 12 images, and 2 s for each."""
    assert StageTime("SVMs", 5 + 12 * 2, 12, 2.0).of(100, share=9) == 5 + 100 * 2
    assert StageTime("fit", 3.0, 0, 0.0).of(100, share=9) == 3 * 9


def test_every_stage_is_timed_and_nothing_is_left(tmp_path, monkeypatch):
    write_small_voc(tmp_path / "drawn", train=10, test=2)
    config = parse_config([*FLAGS, "--data.root", str(tmp_path / "drawn")])
    config = replace(config, held_back=0.2)
    data = read_dataset(config.data, "trainval")
    monkeypatch.setattr(estimate, "IMAGES", 4)
    monkeypatch.setitem(SCALES, 1, (160,))  # a twentieth of the pixels of 688
    monkeypatch.setattr(shuffle_buffer, "STEPS_HELD", 8)
    before = sorted(tmp_path.rglob("*")), logging.root.manager.disable
    monkeypatch.chdir(tmp_path)
    found = estimate_seconds(config, data)
    assert (sorted(tmp_path.rglob("*")), logging.root.manager.disable) == before
    stages = ("windows of", "fine-tuning", "training windows", "SVMs", "box regression")
    assert all(any(name.startswith(stage) for name in found) for stage in stages)
    assert all(seconds > 0 for seconds in found.values())
    more = replace(config, finetune=replace(config.finetune, steps=10_000))
    assert estimate_seconds(more, data)["fine-tuning"] > 10 * found["fine-tuning"]


def test_a_class_without_objects_is_refused(tmp_path):
    write_small_voc(tmp_path / "drawn", train=10, test=2)
    config = parse_config([*FLAGS, "--data.root", str(tmp_path / "drawn")])
    data = read_dataset(config.data, "trainval")
    with pytest.raises(ValueError, match="nothing"):
        estimate_seconds(config, replace(data, classes=(*data.classes, "nothing")))
