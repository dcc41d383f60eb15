"""The detector is the same, byte for byte, for any processes, threads and order of work."""

import os

import pytest
from driven_tools import FLAGS, call_of, files, made_calls, write_small_voc

METHOD = ("--proposals.method", "both", "--proposals.edge_boxes.max_windows", "40")
TRAINED = (
    *("--finetune.train_from", "conv4", "--finetune.batch", "32"),
    *("--finetune.steps", "6", "--finetune.conv_steps", "3", "--mirrored"),
)


def training(folder, name, data, workers, cache, *more):
    places = ("--data.root", data, "--run", folder / name, "--data.cache", folder / cache)
    flags = (*FLAGS, *METHOD, *TRAINED, *places, "--workers", workers, *more)
    return call_of("train_det.py", folder, name, *flags)


def compare(folder, data, split, *more):
    """Check that one process, two, and one with another tool's windows train the same detector."""
    one, two, after = (
        training(folder, name, data, workers, cache, *more)
        for name, workers, cache in (("one", 1, "a"), ("two", 2, "b"), ("after", 1, "c"))
    )
    windows = call_of(
        "make_proposals.py",
        folder,
        "windows",
        *("--data.root", data, "--data.split", split, "--cache", folder / "c", "--workers", 2),
        *(flag for flag in METHOD),
        *("--proposals.selective_search.base_k", "400"),
        *("--proposals.selective_search.inc_k", "400"),
        *("--proposals.selective_search.max_windows", "60"),
        *(more[more.index("--limit") :][:2] if "--limit" in more else ()),
    )
    calls = made_calls(folder, [one], threads="1", cores=None)
    calls += made_calls(folder, [two, windows, after], threads=None, cores=None)
    for call in calls:
        assert call.status == 0, call.err
    assert "\nwindows: 0 of" not in calls[-1].err
    detectors = {
        (folder / name / "detector.safetensors").read_bytes() for name in ("one", "two", "after")
    }
    assert len(detectors) == 1
    made = [files(folder / cache, "*.safetensors") for cache in ("a", "b", "c")]
    assert made[0] == made[1] == made[2]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores to tell")
def test_on_drawn_images(tmp_path):
    write_small_voc(tmp_path / "drawn", train=5, test=1)
    compare(tmp_path, tmp_path / "drawn", "train")


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores to tell")
def test_on_40_real_images(tmp_path, voc07_root):
    compare(tmp_path, voc07_root, "train", "--limit", "40", "--data.difficult", "true")
