"""The stage of windows: made once, unreadable images left out, imported windows checked."""

import logging
import os
import time
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from made_world import CLASSES, events_of, made_world

from detection.data.records import Dataset
from detection.data.windows import find_windows
from detection.settings.data import Data
from files.images import UnreadableImage
from proposals.methods import Proposals
from proposals.selective_search import SelectiveSearch


@pytest.fixture
def world(tmp_path):
    return made_world(tmp_path)


@pytest.fixture
def cache(tmp_path):
    return Data(cache=str(tmp_path / "cache"))


def break_images(world, *places):
    """Cut images to a quarter of their bytes: the header is whole; all have the same bytes."""
    for place in places:
        path = world.data.records[place].path
        content = path.read_bytes()
        path.write_bytes(world.data.records[0].path.read_bytes()[: len(content) // 4])


def test_windows_are_made_once(world, cache, caplog):
    caplog.set_level(logging.INFO)
    run = world.run(data=cache)
    few = Dataset(world.data.records[:2], CLASSES)
    find_windows(run, "train", few)
    windows, data = find_windows(run, "train", world.data)
    assert data is world.data
    assert windows.method == run.config.proposals.selective_search
    found = windows.load(data.records[4].path)
    assert found.shape[1:] == (4,)
    assert len(found)
    find_windows(run, "train", world.data)
    said = [line for line in caplog.messages if line.startswith("windows: ")]
    counts = ((0, 2), (2, 6), (6, 6))
    assert said == [f"windows: {done} of {n} images were already done" for done, n in counts]
    # A call with nothing to do is not logged as a stage.
    made = [event["stage"] for event in events_of(run, "stage")]
    assert made == ["windows of train by selective_search"] * 2


@pytest.mark.parametrize("method", ["selective_search", "both"])
def test_images_that_cannot_be_read_are_left_out(world, cache, method, caplog):
    break_images(world, 1, 4)
    proposals = Proposals(method, SelectiveSearch(min_side=4))
    run = world.run(data=cache, proposals=proposals)
    for _ in range(2):  # the second call tries them again
        windows, data = find_windows(run, "train", world.data)
        assert [record.image_id for record in data.records] == [
            *("000000", "000002", "000003", "000005")
        ]
        assert set(data.unreadable) == {"000001", "000004"}
        assert "000001.png is not a readable image" in data.unreadable["000001"]
        for record in data.records:
            assert len(windows.load(record.path))


def test_strict_stops_at_the_first(world, cache):
    break_images(world, 1)
    with pytest.raises(UnreadableImage, match=r"000001.png is not a readable image"):
        find_windows(world.run(data=cache, strict=True), "train", world.data)


def test_windows_of_a_file(world, cache, tmp_path):
    arrays = {
        record.image_id: np.array([[1, 2, 30, 40.0]], np.float32) for record in world.data.records
    }
    np.savez(tmp_path / "all.npz", **arrays)
    del arrays["000003"]
    np.savez(tmp_path / "lacking.npz", **arrays)

    def found(name):
        proposals = Proposals("file", file=str(tmp_path / name))
        return find_windows(world.run(data=cache, proposals=proposals), "train", world.data)

    windows, data = found("all.npz")
    assert windows.load(data.records[2].path).tolist() == [[1, 2, 30, 40]]
    with pytest.raises(ValueError, match=r"lacking.npz has no windows of 1 of 6 images: .*000003"):
        found("lacking.npz")
    broken = world.data.records[5]
    content = broken.path.read_bytes()
    broken.path.write_bytes(content[: len(content) // 4])
    _, data = found("all.npz")
    assert set(data.unreadable) == {"000005"}


def test_the_same_image_under_two_names(world, cache):
    first = world.data.records[0]
    other = first.path.with_name("copy.rf.1.png")
    other.write_bytes(first.path.read_bytes())
    records = (first, replace(first, image_id="copy.rf.1", path=other))
    windows, data = find_windows(world.run(data=cache), "train", Dataset(records, CLASSES))
    one, two = (windows.load(record.path) for record in data.records)
    np.testing.assert_array_equal(one, two)


@dataclass(frozen=True)
class RecordedWindows:
    """A method whose windows hold the process that made them and whether it uses CUDA."""

    name = key = "told"

    def __call__(self, image):
        time.sleep(0.2)
        return np.array([[0, 0, os.getpid(), 1 + torch.cuda.is_initialized()]], np.float64)


def test_beside_a_gpu_windows_are_made_by_processes(world, cache, monkeypatch):
    """Processes make windows, an image each, as threads would wait for each other."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(Proposals, "parts", (RecordedWindows(),))
    run = world.run(data=cache, device="cuda", workers=2)
    assert run.shares_network
    windows, data = find_windows(run, "train", world.data)
    rows = np.concatenate([windows.load(record.path) for record in data.records])
    assert os.getpid() not in rows[:, 2]
    assert set(rows[:, 3]) == {1}
