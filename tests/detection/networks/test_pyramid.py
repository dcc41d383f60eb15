import itertools

import numpy as np
import pytest
import reference
import torch

from detection.networks import pyramid
from detection.networks.pyramid import pool_pyramid

every_type = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16]
)


@pytest.fixture(autouse=True)
def one_thread():
    # Dividing thousands of tiny pools among threads would take longer than all these tests.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random_map(channels, height, width):
    return torch.randn(channels, height, width, generator=torch.Generator().manual_seed(0))


def random_cells(count, height, width):
    """Return windows of any size; the first two are a single cell and the whole map."""
    rng = np.random.default_rng(0)
    x, y = (np.sort(rng.integers(0, side, (count, 2)), axis=1) for side in (width, height))
    cells = np.stack((x[:, 0], y[:, 0], x[:, 1], y[:, 1]), axis=1)
    cells[:2] = [[width - 1, 0, width - 1, 0], [0, 0, width - 1, height - 1]]
    return torch.from_numpy(cells)


def window_by_window(map, cells):
    # Adaptive pooling may not support every type; double precision represents all of them.
    pooled = [reference.adaptive_pyramid(map.double(), window) for window in cells]
    return torch.stack(pooled).to(map.dtype)


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


@every_type
@pytest.mark.parametrize("numbers", ["any", "negative", "no negative", "zeros of both signs"])
def test_random_windows_in_every_type(dtype, numbers):
    map = random_map(3, 29, 39)
    map = {
        "any": map,
        "negative": -map.abs() - 1,
        "no negative": map.relu(),
        "zeros of both signs": torch.where(map > 0, 0.0, -0.0),
    }[numbers].to(dtype)
    cells = random_cells(60, 29, 39)
    pooled = pool_pyramid(map, cells)
    assert pooled.dtype == dtype
    assert torch.equal(pooled, window_by_window(map, cells))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (40, 1), (2, 3), (100, 17)])
def test_maps_of_any_shape(height, width):
    map, cells = random_map(2, height, width), random_cells(40, height, width)
    assert torch.equal(pool_pyramid(map, cells), window_by_window(map, cells))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("chunk", [1, 5000])
def test_neither_chunks_nor_threads_change_anything(monkeypatch, threads, chunk):
    map, cells = random_map(4, 12, 15).bfloat16(), random_cells(100, 12, 15)
    expected = pool_pyramid(map, cells)
    monkeypatch.setattr(pyramid, "CHUNK_BYTES", chunk)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert torch.equal(pool_pyramid(map, cells), expected)


def test_cells_of_any_integer_type():
    map, cells = random_map(4, 12, 15), random_cells(20, 12, 15)
    for dtype in (torch.int32, torch.int16, torch.uint8):
        assert torch.equal(pool_pyramid(map, cells.to(dtype)), pool_pyramid(map, cells))


def test_equals_the_bin_by_bin_twin():
    map = random_map(2, 9, 31)
    cells = [(0, 0, 30, 8), (5, 2, 11, 8), (30, 8, 30, 8), (3, 1, 4, 7)]
    expected = np.stack([reference.pool_window(map.numpy(), window) for window in cells])
    assert np.array_equal(pool_pyramid(map, torch.tensor(cells)).numpy(), expected)


def test_bins_of_long_windows_are_exact():
    # PyTorch's operator computes the edges of bins in floating point.
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


@every_type
def test_the_way_with_a_gradient_gives_the_same_numbers(dtype):
    map, cells = random_map(3, 29, 39).to(dtype).requires_grad_(), random_cells(60, 29, 39)
    with_gradient = pool_pyramid(map, cells)
    assert with_gradient.requires_grad
    assert with_gradient.dtype == dtype
    with torch.no_grad():
        without = pool_pyramid(map, cells)
    assert not without.requires_grad
    assert torch.equal(with_gradient, without)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradient_in_half_precision_is_summed_in_single(dtype):
    # 600 windows on one cell give it a gradient of 600 * 50; half precision cannot count so far.
    cells = torch.tensor([[2, 1, 2, 1]] * 600)
    map = random_map(1, 3, 4).to(dtype).requires_grad_()
    pool_pyramid(map, cells).sum().backward()
    expected = torch.zeros(1, 3, 4)
    expected[0, 1, 2] = 600 * 50
    assert torch.equal(map.grad, expected.to(dtype))


def test_windows_do_not_depend_on_one_another():
    map = random_map(4, 12, 15)
    cells = torch.tensor([[0, 0, 14, 11], [3, 4, 9, 5], [7, 7, 7, 7]])
    together = pool_pyramid(map, cells)
    alone = torch.cat([pool_pyramid(map, window[None]) for window in cells])
    assert torch.equal(together, alone)


def test_windows_in_another_order():
    map, cells = random_map(4, 29, 39), random_cells(200, 29, 39)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    assert torch.equal(pool_pyramid(map, cells[order]), pool_pyramid(map, cells)[order])


@every_type
def test_a_map_in_another_memory_order(dtype):
    map = random_map(4, 12, 15).to(dtype)
    cells = random_cells(20, 12, 15)
    expected = pool_pyramid(map, cells)
    channels_last = map.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    transposed = map.transpose(1, 2).contiguous().transpose(1, 2)
    part = torch.full((8, 14, 30), 9, dtype=dtype)[::2, 1:-1, ::2].copy_(map)
    for same in (channels_last, transposed, part):
        assert not same.is_contiguous()
        assert torch.equal(pool_pyramid(same, cells), expected)


def test_the_map_is_left_as_it_was():
    map = random_map(4, 12, 15).permute(1, 2, 0).contiguous().permute(2, 0, 1)
    before = map.clone()
    pool_pyramid(map, random_cells(20, 12, 15)).zero_()
    assert torch.equal(map, before)


@every_type
def test_no_windows(dtype):
    pooled = pool_pyramid(random_map(4, 5, 6).to(dtype), torch.zeros((0, 4), dtype=torch.long))
    assert pooled.shape == (0, 200)
    assert pooled.dtype == dtype


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_same_on_a_gpu():
    map = random_map(16, 40, 60)
    cells = torch.tensor([[0, 0, w - 1, h - 1] for w in range(1, 61, 3) for h in range(1, 41, 3)])
    assert torch.equal(pool_pyramid(map.cuda(), cells).cpu(), pool_pyramid(map, cells))
