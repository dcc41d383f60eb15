import numpy as np
import pytest
import reference
from made_windows import random_windows

from detection.features.mapping import window_to_cells

ALEXNET = {"stride": 16, "centre": 15, "shrink": 6.5}
ZF5 = {"stride": 16, "centre": 20, "shrink": 6.5}


def test_hand_worked_window_at_the_images_own_size():
    # Shorter side 480, scale 480: nothing is scaled. (99, 49, 300, 250) is l=100, t=50, r=300,
    # b=250 in 1-based inclusive pixels. AlexNet's offset0 is 16.
    #   left   floor((100 - 16 + 6.5) / 16 + .5) = floor(6.16) = 6
    #   top    floor((50 - 16 + 6.5) / 16 + .5)  = floor(3.03) = 3
    #   right  ceil((300 - 16 - 6.5) / 16 - .5)  = ceil(16.84) = 17
    #   bottom ceil((250 - 16 - 6.5) / 16 - .5)  = ceil(13.72) = 14   (0-based)
    cells = window_to_cells([[99, 49, 300, 250]], (480, 640), 480, (29, 39), **ALEXNET)
    assert cells.tolist() == [[6, 3, 17, 14]]


def test_hand_worked_window_of_a_resized_image():
    # 375 to 688: factor 687 / 374 = 1.836898. ZF-5's offset0 is 21.
    #   l=100: 99 * 1.836898 + 1 = 182.85; floor((182.85 - 14.5) / 16 + .5) = floor(11.02) = 11
    #   t=50:  49 * 1.836898 + 1 = 91.01;  floor((91.01 - 14.5) / 16 + .5)  = floor(5.28) = 5
    #   r=300: 299 * 1.836898 + 1 = 550.23; ceil((550.23 - 27.5) / 16 - .5) = ceil(32.17) = 33
    #   b=250: 249 * 1.836898 + 1 = 458.39; ceil((458.39 - 27.5) / 16 - .5) = ceil(26.43) = 27
    cells = window_to_cells([[99, 49, 300, 250]], (375, 500), 688, (42, 56), **ZF5)
    assert cells.tolist() == [[11, 5, 33, 27]]


def test_an_inverted_window_takes_the_cell_between():
    # l=105, r=110: left floor(95.5 / 16 + .5) + 1 = 7, right ceil(87.5 / 16 - .5) + 1 = 6;
    # (7 + 6) / 2 cut to 6, 0-based 5. Rows: t=101, b=300: floor(91.5 / 16 + .5) = 6,
    # ceil(277.5 / 16 - .5) = 17.
    cells = window_to_cells([[104, 100, 110, 300]], (480, 640), 480, (29, 39), **ALEXNET)
    assert cells.tolist() == [[5, 6, 5, 17]]


def test_windows_at_and_beyond_the_borders_stay_inside_the_map():
    windows = [[0, 0, 1, 1], [639, 479, 640, 480], [0, 0, 640, 480], [-50, -90, 900, 900]]
    cells = window_to_cells(windows, (480, 640), 480, (29, 39), **ALEXNET)
    assert cells.tolist() == [[0, 0, 0, 0], [38, 28, 38, 28], [0, 0, 38, 28], [0, 0, 38, 28]]


@pytest.mark.parametrize(("network", "offset0"), [(ALEXNET, 16), (ZF5, 21)])
@pytest.mark.parametrize(
    ("image_size", "scale", "map_size"),
    [((375, 500), 480, (29, 39)), ((375, 500), 1200, (74, 99)), ((640, 90), 688, (304, 42))],
)
def test_equals_the_twin(rng, network, offset0, image_size, scale, map_size):
    windows = random_windows(rng, 300, image_size)
    windows[:50, 2:] = windows[:50, :2] + rng.integers(1, 12, (50, 2))
    expected = [
        reference.cells_of_window(window, image_size, scale, map_size, offset0)
        for window in windows
    ]
    cells = window_to_cells(windows, image_size, scale, map_size, **network)
    assert cells.dtype == np.int64
    assert cells.tolist() == expected


def test_a_224_pixel_window_maps_to_14_or_15_cells():
    starts = np.arange(100, 200)
    windows = np.stack([starts, starts, starts + 224, starts + 224], axis=1)
    cells = window_to_cells(windows, (480, 640), 480, (29, 39), **ZF5)
    assert set((cells[:, 2] - cells[:, 0] + 1).tolist()) == {14, 15}


def test_an_image_one_pixel_high():
    cells = window_to_cells([[10, 0, 20, 1]], (1, 40), 480, (29, 1199), **ALEXNET)
    assert (cells >= 0).all()
    assert cells[0, 0] <= cells[0, 2] < 1199


def test_no_windows():
    windows = np.zeros((0, 4), np.float32)
    assert window_to_cells(windows, (375, 500), 480, (29, 39), **ALEXNET).shape == (0, 4)
