import itertools

import numpy as np
import pytest
import reference
import torch

from detection.features.pyramid import SpatialPyramidPooling, pool_pyramid


def random_map(channels, height, width):
    return torch.randn(channels, height, width, generator=torch.Generator().manual_seed(0))


def test_every_window_size_at_both_borders_equals_adaptive_pooling():
    side = 20
    map = random_map(3, side, side)
    cells = [
        (left, top, left + width - 1, top + height - 1)
        for width, height in itertools.product(range(1, 17), repeat=2)
        for left, top in {(0, 0), (side - width, side - height), (2, side - height)}
    ]
    expected = torch.stack([reference.adaptive_pyramid(map, window) for window in cells])
    assert torch.equal(pool_pyramid(map, torch.tensor(cells)), expected)


def test_equals_the_bin_by_bin_twin():
    map = random_map(2, 9, 31)
    cells = [(0, 0, 30, 8), (5, 2, 11, 8), (30, 8, 30, 8), (3, 1, 4, 7)]
    expected = np.stack([reference.pool_window(map.numpy(), window) for window in cells])
    assert np.array_equal(pool_pyramid(map, torch.tensor(cells)).numpy(), expected)


def test_bins_of_long_windows_are_exact():
    # Bin edges are computed in floating point inside the operator.
    map = random_map(1, 1, 700)
    cells = [(0, 0, width - 1, 0) for width in range(1, 701)]
    expected = torch.stack([reference.adaptive_pyramid(map, window) for window in cells])
    assert torch.equal(pool_pyramid(map, torch.tensor(cells)), expected)


def test_order_is_level_then_channel_row_column():
    # Channel 0 holds 0..35 row by row, channel 1 the same plus 100.
    one = torch.arange(36.0).view(6, 6)
    pooled = pool_pyramid(torch.stack([one, one + 100]), torch.tensor([[0, 0, 5, 5]]))[0]
    assert pooled[:2].tolist() == [35, 135]
    assert pooled[2:10].tolist() == [14, 17, 32, 35, 114, 117, 132, 135]
    assert pooled[10:19].tolist() == [7, 9, 11, 19, 21, 23, 31, 33, 35]
    assert pooled[28:64].tolist() == list(range(36))
    assert pooled[64:].tolist() == list(range(100, 136))


def test_gradient():
    generator = torch.Generator().manual_seed(0)
    map = torch.randperm(2 * 8 * 9, generator=generator).double().view(2, 8, 9).requires_grad_()
    cells = torch.tensor([[0, 0, 8, 7], [1, 2, 3, 3], [8, 7, 8, 7], [2, 0, 8, 6]])
    assert torch.autograd.gradcheck(lambda values: pool_pyramid(values, cells), (map,))


def test_windows_do_not_depend_on_one_another():
    map = random_map(4, 12, 15)
    cells = torch.tensor([[0, 0, 14, 11], [3, 4, 9, 5], [7, 7, 7, 7]])
    together = pool_pyramid(map, cells)
    alone = torch.cat([pool_pyramid(map, window[None]) for window in cells])
    assert torch.equal(together, alone)
    assert torch.equal(pool_pyramid(map, cells.flip(0)), together.flip(0))


def test_a_map_in_another_memory_order():
    map = random_map(4, 12, 15)
    cells = torch.tensor([[0, 0, 14, 11], [3, 4, 9, 5]])
    strided = map.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert torch.equal(pool_pyramid(strided, cells), pool_pyramid(map, cells))


def test_no_windows():
    assert pool_pyramid(random_map(4, 5, 6), torch.zeros((0, 4), dtype=torch.long)).shape == (
        0,
        200,
    )


def test_layer_pools_whole_maps_of_any_size():
    layer = SpatialPyramidPooling()
    for height, width in ((13, 13), (10, 17), (1, 3)):
        maps = random_map(6, height, width).view(2, 3, height, width)
        expected = torch.stack(
            [reference.adaptive_pyramid(map, (0, 0, width - 1, height - 1)) for map in maps]
        )
        assert torch.equal(layer(maps), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_same_on_a_gpu():
    map = random_map(16, 40, 60)
    cells = torch.tensor([[0, 0, w - 1, h - 1] for w in range(1, 61, 3) for h in range(1, 41, 3)])
    assert torch.equal(pool_pyramid(map.cuda(), cells).cpu(), pool_pyramid(map, cells))
