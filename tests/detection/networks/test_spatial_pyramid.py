import warnings
from itertools import product

import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d

from detection.networks.pyramid import LEVELS
from detection.networks.spatial_pyramid import SpatialPyramidPooling

SIDES = range(1, 65)
ALL_LEVELS = tuple(range(1, 9))


def random_maps(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def slow_pooling(maps, levels, pool):
    """Pool bin by bin; every bin is cut out of the map."""
    rows = []
    for one in maps:
        parts = []
        _, height, width = one.shape
        for n in levels:
            for channel, i, j in product(range(len(one)), range(n), range(n)):
                top, bottom = i * height // n, -(-(i + 1) * height // n)
                left, right = j * width // n, -(-(j + 1) * width // n)
                cells = one[channel, top:bottom, left:right]
                parts.append(cells.max() if pool == "max" else cells.mean())
        rows.append(torch.stack(parts))
    return torch.stack(rows)


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_equals_the_slow_twin(pool):
    for height, width in ((13, 13), (10, 17), (1, 3), (7, 2)):
        maps = random_maps(2, 3, height, width)
        layer = SpatialPyramidPooling((1, 2, 3, 6), pool)
        assert layer(maps).shape == (2, 3 * layer.bins)
        for found in (layer(maps), layer.by_slices(maps)):
            torch.testing.assert_close(found, slow_pooling(maps, layer.levels, pool))


@pytest.mark.parametrize("side", SIDES)
def test_all_sizes_and_levels(side):
    # Sides of 1 to 64 cells and levels of 1 to 8 bins include those where a pooling with one
    # kernel and stride is wrong.
    maps = random_maps(1, 2, side, 65 - side, seed=side)
    adaptive = torch.cat([adaptive_max_pool2d(maps, n).flatten(1) for n in ALL_LEVELS], dim=1)
    layer = SpatialPyramidPooling(ALL_LEVELS)
    assert torch.equal(layer(maps), adaptive)
    assert torch.equal(layer.by_slices(maps), adaptive)
    mean = torch.cat([adaptive_avg_pool2d(maps, n).flatten(1) for n in ALL_LEVELS], dim=1)
    layer = SpatialPyramidPooling(ALL_LEVELS, "mean")
    assert torch.equal(layer(maps), mean)
    torch.testing.assert_close(layer.by_slices(maps), mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types(dtype):
    maps = random_maps(2, 3, 9, 11).to(dtype)
    for layer in (SpatialPyramidPooling(), SpatialPyramidPooling(pool="mean")):
        assert layer(maps).dtype == dtype
    assert torch.equal(SpatialPyramidPooling()(maps), SpatialPyramidPooling().by_slices(maps))


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_scripts_for_any_size(pool):
    layer = SpatialPyramidPooling(LEVELS, pool)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions of PyTorch warn that it is deprecated
        scripted = torch.jit.script(layer)
    for height, width in ((13, 13), (10, 17), (1, 3)):
        maps = random_maps(2, 3, height, width)
        torch.testing.assert_close(scripted(maps), layer(maps))


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_traces(pool):
    layer = SpatialPyramidPooling(LEVELS, pool)
    maps = random_maps(1, 3, 13, 13)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(layer, maps)
    assert "adaptive" not in str(traced.graph)
    torch.testing.assert_close(traced(maps), layer(maps))


def test_exports():
    layer = SpatialPyramidPooling()
    maps = random_maps(1, 3, 13, 13)
    program = torch.export.export(layer, (maps,))
    assert "adaptive" not in str(program.graph)
    assert torch.equal(program.module()(maps), layer(maps))


def test_exports_to_onnx(tmp_path):
    pytest.importorskip("onnxscript")
    maps = random_maps(1, 3, 13, 13)
    path = tmp_path / "pyramid.onnx"
    torch.onnx.export(SpatialPyramidPooling().eval(), (maps,), str(path), dynamo=True)
    runtime = pytest.importorskip("onnxruntime").InferenceSession(str(path))
    found = runtime.run(None, {runtime.get_inputs()[0].name: maps.numpy()})[0]
    assert torch.equal(torch.from_numpy(found), SpatialPyramidPooling()(maps))


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_gradients(pool):
    maps = random_maps(1, 2, 7, 4).double().requires_grad_()
    layer = SpatialPyramidPooling((1, 3, 6), pool)
    assert torch.autograd.gradcheck(layer, maps)
    assert torch.autograd.gradcheck(layer.by_slices, maps)


@pytest.mark.parametrize(("levels", "pool"), [((), "max"), ((0, 1), "max"), ((1,), "median")])
def test_settings_that_make_no_pyramid(levels, pool):
    with pytest.raises(ValueError, match="levels of 1 bin"):
        SpatialPyramidPooling(levels, pool)
