"""The benchmark: phases, operations, ratios; its plain method gives the same results."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_windows import random_windows

from commands import benchmark, timed_methods
from commands.timed_methods import METHODS, PlainSPP, native_methods
from detection.evaluation.timing import (
    PHASES,
    convolution_operations,
    matrix_rate,
    time_image,
    timed_module,
)
from detection.features.extractor import SPPExtractor
from detection.networks.build import build_backbone

SIZE = (60, 80)


def test_operations_by_hand():
    # 3x3 from 3 channels to 4, output 5x6 without padding; a multiplication is two operations.
    layer = torch.nn.Conv2d(3, 4, 3)
    assert convolution_operations(layer, [(7, 8)]) == 2 * 4 * 5 * 6 * 3 * 9
    assert convolution_operations(layer, [(7, 8)] * 3) == 3 * 2 * 4 * 5 * 6 * 3 * 9
    assert layer.weight.device.type == "cpu"


def test_the_papers_count_of_operations():
    """R-CNN's convolutions need about 24 times SPP-net's operations at five scales, 160 at one."""
    trunk = build_backbone("alexnet", "random").trunk
    rcnn = 2000 * convolution_operations(trunk, [(227, 227)])
    sizes = [benchmark.resized_size((375, 500), s) for s in benchmark.SCALES[5]]
    assert 18 < rcnn / convolution_operations(trunk, sizes) < 30
    one = convolution_operations(trunk, [benchmark.resized_size((375, 500), 688)])
    assert 110 < rcnn / one < 190


def test_calls_are_timed_while_the_block_lasts():
    layer = torch.nn.Linear(2, 2)
    with timed_module(layer) as seconds:
        layer(torch.zeros(1, 2))
        layer(torch.zeros(1, 2))
    layer(torch.zeros(1, 2))
    assert len(seconds) == 2
    assert min(seconds) >= 0


@pytest.mark.parametrize("method", ["spp_1_scale", "spp_1_scale_plain", "rcnn"])
def test_phases_add_up(rng, method):
    detector = benchmark.make(METHODS[method], 16, torch.device("cpu"))
    image = rng.integers(0, 256, (*SIZE, 3), np.uint8)
    seconds = time_image(detector, image, random_windows(rng, 4, SIZE).astype(np.float32))
    assert seconds["total"] == pytest.approx(sum(seconds[phase] for phase in PHASES))
    assert min(seconds.values()) >= 0


def test_plain_pooling_gives_the_same_features(rng):
    backbone = build_backbone("alexnet", "random")
    image = rng.integers(0, 256, (*SIZE, 3), np.uint8)
    windows = random_windows(rng, 20, SIZE)
    plain = PlainSPP(backbone, (120, 160)).features(image, windows)
    found = SPPExtractor(backbone, (120, 160)).features(image, windows)
    assert torch.equal(plain.pooled, found.pooled[found.index])


def test_a_file_to_its_boxes(monkeypatch):
    """The result is the median over the images; an unmeasured search comes first."""
    clock, seen = [0.0], []
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: clock[0])

    def search(path):
        clock[0] += {"a": 1.0, "b": 2.0, "c": 9.0}[path] if seen else 100.0
        seen.append(path)

    monkeypatch.setattr(benchmark, "read_image", lambda path: path)
    records = [SimpleNamespace(path=path) for path in "abc"]
    assert benchmark.end_to_end(SimpleNamespace(search=search), records) == 2
    assert seen == ["a", "a", "b", "c"]


@pytest.mark.parametrize(("native", "different"), [("bfloat16", 10), ("float32", 7)])
def test_methods_that_become_equal(monkeypatch, native, different):
    """In float32, fc layers of full rank are the same twice, and so is R-CNN."""
    monkeypatch.setattr(
        timed_methods, "native_precision", lambda precision, _: min(precision, native, key=len)
    )
    methods = native_methods(torch.device("cpu"))
    assert list(methods) == list(METHODS)
    assert len(set(methods.values())) == different
    if native == "float32":
        assert methods["rcnn_bfloat16"] == METHODS["rcnn"]
        assert methods["spp_5_scales_whole"] == METHODS["spp_5_scales_float32"]
    else:
        assert methods == METHODS


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_methods_take_turns_and_the_first_is_not_counted(monkeypatch, device):
    """On a GPU each image is run once unmeasured, since each size has its own algorithms."""
    calls = []

    def time_image(detector, image, windows):
        calls.append((detector.name, windows))
        again = calls.count((detector.name, windows))
        return dict.fromkeys((*PHASES, "total"), float(again if device == "cpu" else again % 2))

    def named(name):
        place = SimpleNamespace(device=SimpleNamespace(type=device))
        return SimpleNamespace(name=name, extractor=place)

    monkeypatch.setattr(benchmark, "time_image", time_image)
    monkeypatch.setattr(benchmark, "read_image", lambda path: path)
    names = [f"method {number}" for number in range(8)]
    records = [SimpleNamespace(path=number) for number in range(3)]
    found = benchmark.measure({name: named(name) for name in names}, records, [10, 11, 12])
    # On the CPU the second call with image 0 is measured, and the first call with another.
    assert found == {
        name: dict.fromkeys((*PHASES, "total"), float(device == "cpu")) for name in names
    }
    each = 1 if device == "cpu" else 2
    turns = [calls[n : n + each * len(names)] for n in range(0, len(calls), each * len(names))]
    assert [{windows for _, windows in turn} for turn in turns] == [{10}, {10}, {11}, {12}]
    orders = [[name for name, _ in turn[::each]] for turn in turns]
    assert all(sorted(order) == names for order in orders)
    assert len({tuple(order) for order in orders}) == 4


def test_ratios():
    times = {
        "rcnn": {"conv": 8.0, "total": 10.0},
        "five": {"conv": 0.5, "total": 1.0},
        "one": {"conv": 0.1, "total": 0.4},
    }
    assert benchmark.ratios(times, "rcnn", "five", "one") == pytest.approx(
        {"conv_5_scales": 16, "conv_1_scale": 80, "total_5_scales": 10, "total_1_scale": 25}
    )


def test_matrix_rate_is_a_rate():
    assert matrix_rate("float32", torch.device("cpu"), size=64) > 0
