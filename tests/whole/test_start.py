"""A training that starts from another detector, by the commands, on synthetic data."""

from types import SimpleNamespace

import pytest
from driven_tools import FLAGS, call_of, files, made_calls, write_small_voc

from detection.inference.detector import SPPDetector
from detection.networks.truncated import TruncatedHead
from files.writing import file_digest

# A start detector brings its network.
WITHOUT = FLAGS.index("--network.weights")
STARTING = [*FLAGS[:WITHOUT], *FLAGS[WITHOUT + 2 :], "--svm.layers", "[fc6,fc7]"]
AS_IT_IS = ("--finetune.steps", "0")
SHORT = ("--finetune.steps", "6", "--finetune.hidden", "99")
KILL = ("*/svms.checkpoint", 1, "after")


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Make all calls of this file; return their folder and the calls by name."""
    folder = tmp_path_factory.mktemp("start")
    write_small_voc(folder / "drawn", train=8, test=4)
    first, small = folder / "first/detector.safetensors", folder / "small.safetensors"

    def trained(name, run, flags, *more, kill=None):
        places = ("--data.root", folder / "drawn", "--data.cache", folder / "cache")
        run = ("--run", folder / run)
        return call_of("train_det.py", folder, name, *flags, *places, *run, *more, kill=kill)

    calls = {
        "first": trained("first", "first", FLAGS),
        "export": call_of("export_det.py", folder, "export", first, small, "--rank", "8"),
        "whole": trained("whole", "whole", STARTING, "--start", first, *AS_IT_IS),
        "small": trained("small", "small", STARTING, "--start", small, *AS_IT_IS, "--workers", "2"),
        "killed": trained("killed", "alone", STARTING, "--start", small, *AS_IT_IS, kill=KILL),
        "resumed": trained("resumed", "alone", STARTING, "--start", small, *AS_IT_IS),
        "short": trained("short", "short", STARTING, "--start", small, *SHORT),
        "test": call_of("test_det.py", folder, "test", "--run", folder / "small"),
        "ranked": call_of(
            *("test_det.py", folder, "ranked", "--run", folder / "whole"),
            *("--detection.fc_rank", "8", "--detection.layer", "fc6+fc7"),
        ),
        "no start": trained("no_start", "none", FLAGS, *AS_IT_IS),
        "two": trained("two", "none", FLAGS, "--start", first),
    }
    found = dict(zip(calls, made_calls(folder, list(calls.values())), strict=True))
    return SimpleNamespace(folder=folder, calls=found)


def detector_of(ended, name):
    assert ended.calls[name].status == 0, ended.calls[name].err
    return SPPDetector.load(ended.folder / name / "detector.safetensors")


def test_new_svms_on_the_layers_of_another_detector(ended):
    first, whole, small = (detector_of(ended, name) for name in ("first", "whole", "small"))
    assert "fine-tuning" not in ended.calls["whole"].out
    for made in (whole, small):
        assert made.layers == ("fc6", "fc7", "fc6+fc7")
        assert made.trained["train_from"] == "svm"
    assert whole.trained["start"] == file_digest(ended.folder / "first/detector.safetensors")
    assert whole.features.head.fc7.weight.equal(first.features.head.fc7.weight)
    assert whole.extractor.backbone.digest == first.extractor.backbone.digest
    # SVMs on the same images and features are the same.
    for layer in ("fc6", "fc7"):
        assert (whole.svms[layer].coef_ == first.svms[layer].coef_).all()
    assert isinstance(small.features.head, TruncatedHead)
    assert small.features.head.rank == 8


def test_neither_processes_nor_a_kill_change_a_byte(ended):
    killed, resumed = ended.calls["killed"], ended.calls["resumed"]
    assert killed.status == -9, killed.err
    assert resumed.status == 0, resumed.err
    assert "SVMs resume at image" in resumed.err
    one, other = (
        {path.removeprefix(name): content for path, content in files(ended.folder, kind).items()}
        for name, kind in (
            ("small", "small/*/[!t]*.safetensors"),
            ("alone", "alone/*/*.safetensors"),
        )
    )
    assert one.keys() == other.keys()
    assert one == other
    one, other = (ended.folder / name / "detector.safetensors" for name in ("small", "alone"))
    assert one.read_bytes() == other.read_bytes()


def test_a_short_fine_tuning_of_a_small_detector(ended):
    short = detector_of(ended, "short")
    assert "softmax" in short.layers
    # The head has the width and the rank of the start's.
    assert short.features.head.fc8.in_features == 32
    assert short.features.head.rank == 8
    assert short.trained["train_from"] == "fc"
    assert short.trained["start"] == file_digest(ended.folder / "small.safetensors")


def test_such_detectors_are_tested_as_any_other(ended):
    for name in ("test", "ranked"):
        call = ended.calls[name]
        assert call.status == 0, call.err
        assert call.out.splitlines()[-1].startswith("mAP ")


def test_what_does_not_go_together_is_refused(ended):
    for name, words in (
        ("no start", "Finetune.steps 0 uses fc6 and fc7 of a trained detector"),
        ("two", "has its own network, alexnet, but --network.weights random names another"),
    ):
        call = ended.calls[name]
        assert call.status != 0
        assert words in call.err
        assert "Traceback" not in call.err
