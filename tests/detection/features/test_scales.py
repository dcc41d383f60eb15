import numpy as np
import pytest
import reference
from made_windows import random_windows

from detection.features.scales import (
    SCALES,
    areas,
    choose_scale_paper,
    choose_scale_released,
)

BOTH = pytest.mark.parametrize("choose", [choose_scale_paper, choose_scale_released])


def test_the_papers_scales():
    assert SCALES[5] == (480, 576, 688, 864, 1200)
    assert SCALES[1] == (688,)


@pytest.mark.parametrize(("choose", "index"), [(choose_scale_paper, 4), (choose_scale_released, 3)])
def test_hand_worked_window_where_the_rules_differ(choose, index):
    # 80 x 80 = 6,400 pixels in an image whose shorter side is 375.
    # Paper, s^2 * 6400 / 375^2 against 224^2 = 50,176: 864 gives 33,974 (off by 16,202),
    #   1200 gives 65,536 (off by 15,360).
    # Released, round(208 * 375 / 80) = 975: 864 is off by 111, 1200 by 225.
    windows = np.array([[10, 10, 90, 90]], np.float32)
    assert choose(windows, (375, 500), SCALES[5]).tolist() == [index]


def test_released_rule_rounds_halves_up():
    # 208 * 100 / 3200 = 6.5, rounded 7.
    windows = np.array([[0, 0, 3200, 3200]], np.float32)
    assert choose_scale_released(windows, (100, 100), (6, 7)).tolist() == [1]


def test_released_rule_of_another_network():
    # 100 * 50 / 40 = 125 is nearer to 120 than to 160; 208 * 50 / 40 = 260 is not.
    windows = np.array([[0, 0, 40, 40]], np.float32)
    assert choose_scale_released(windows, (50, 90), (120, 160), 100).tolist() == [0]
    assert choose_scale_released(windows, (50, 90), (120, 160)).tolist() == [1]


@BOTH
def test_first_of_equals(choose):
    windows = np.array([[0, 0, 50, 50]], np.float32)
    assert choose(windows, (100, 200), (480, 480)).tolist() == [0]


@pytest.mark.parametrize(
    ("choose", "twin"),
    [
        (choose_scale_paper, reference.scale_paper),
        (choose_scale_released, reference.scale_released),
    ],
)
@pytest.mark.parametrize("image_size", [(375, 500), (500, 333), (90, 700)])
def test_equals_the_twin(rng, choose, twin, image_size):
    windows = random_windows(rng, 300, image_size)
    expected = [twin(window, image_size, SCALES[5]) for window in windows]
    chosen = choose(windows, image_size, SCALES[5])
    assert chosen.dtype == np.int64
    assert chosen.tolist() == expected


@BOTH
def test_no_windows(choose):
    assert choose(np.zeros((0, 4), np.float32), (375, 500), SCALES[5]).shape == (0,)


def test_areas(rng):
    windows = random_windows(rng, 50, (375, 500))
    found = areas(windows)
    assert found.dtype == np.float64
    assert found.tolist() == [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in windows.tolist()]
    assert areas([[0.5, 0, 1, 10.5]]).tolist() == [5.25]
    # Areas of float32 windows are float64: float32 cannot hold this one.
    assert areas(np.array([[0, 0, 4097, 4099]], np.float32)).tolist() == [4097 * 4099]
    assert areas(np.zeros((0, 4))).shape == (0,)


@pytest.mark.parametrize("window", [[3, 3, 3, 9], [3, 3, 9, 3], [9, 3, 3, 9], [9, 9, 3, 3]])
def test_areas_above_0_only(window):
    with pytest.raises(ValueError, match=r"x2 > x1 and y2 > y1, window 1 is \[\d"):
        areas(np.array([[0, 0, 5, 5], window, [1, 1, 1, 1]]))


@BOTH
def test_bigger_windows_never_take_bigger_scales(choose):
    sides = np.arange(10, 370, 5)
    windows = np.stack([np.zeros_like(sides), np.zeros_like(sides), sides, sides], axis=1)
    assert (np.diff(choose(windows, (375, 500), SCALES[5])) <= 0).all()


@BOTH
def test_a_window_without_area_is_refused(choose):
    windows = np.array([[0, 0, 5, 5], [3, 3, 3, 9]], np.float32)
    with pytest.raises(ValueError, match=r"window 1 is \[3.0, 3.0, 3.0, 9.0\]"):
        choose(windows, (375, 500), SCALES[5])
