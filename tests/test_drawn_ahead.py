"""Batches read ahead by threads: the same ones, in order, and no thread left behind."""

import threading

import pytest

from detection.training.batches import DrawnAhead


class Recorded:
    """Batches that say what was drawn, and when a step's was."""

    def __init__(self, broken=None):
        self.broken = broken
        self.steps = []
        self.was_drawn = [threading.Event() for _ in range(20)]

    def draw(self, step):
        self.steps.append(step)
        self.was_drawn[step].set()
        if step == self.broken:
            raise ValueError(f"picture of step {step}")
        return [step]


def test_one_reader_is_one_step_ahead():
    batches = Recorded()
    with DrawnAhead(batches, 1) as ahead:
        for step in range(5, 9):
            assert ahead.draw(step) == [step]
            # While this step is computed the next is read, and no other.
            assert batches.was_drawn[step + 1].wait(30)
            assert batches.steps == list(range(5, step + 2))


def test_several_readers_draw_the_same_in_the_same_order():
    batches = Recorded()
    with DrawnAhead(batches, 4) as ahead:
        assert [ahead.draw(step) for step in range(9)] == [[step] for step in range(9)]
    assert len(set(batches.steps)) == len(batches.steps)
    assert set(range(9)) <= set(batches.steps) <= set(range(13))


def test_a_picture_that_cannot_be_read_ends_its_own_step():
    with DrawnAhead(Recorded(broken=2), 3) as ahead:
        assert [ahead.draw(0), ahead.draw(1)] == [[0], [1]]
        with pytest.raises(ValueError, match="picture of step 2"):
            ahead.draw(2)


def test_no_thread_is_left_behind():
    before = threading.active_count()
    with DrawnAhead(Recorded(), 2) as ahead:
        ahead.draw(0)
        assert threading.active_count() == before + 2
    assert threading.active_count() == before
