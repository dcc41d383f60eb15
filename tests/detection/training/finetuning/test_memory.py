"""Keeping freed memory changes no number, and ends with the block."""

from types import SimpleNamespace

import pytest
import torch

from detection.training.finetuning import memory


def test_glibc_is_asked_and_asked_back(monkeypatch):
    asked = []
    library = SimpleNamespace(
        mallopt=lambda *words: asked.append(words), malloc_trim=lambda pad: asked.append(("trim",))
    )
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: library)
    with memory.freed_memory_kept():
        assert asked == [(memory.M_MMAP_MAX, 0), (memory.M_TRIM_THRESHOLD, 2**31 - 1)]
    assert asked[2:] == [*memory.DEFAULTS.items(), ("trim",)]


def test_defaults_come_back_after_an_error(monkeypatch):
    asked = []
    library = SimpleNamespace(
        mallopt=lambda *words: asked.append(words), malloc_trim=lambda pad: None
    )
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: library)
    with pytest.raises(RuntimeError, match="diverged"), memory.freed_memory_kept():
        raise RuntimeError("diverged")
    assert asked[2:] == [*memory.DEFAULTS.items()]


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: SimpleNamespace())
    with memory.freed_memory_kept():
        pass


def test_handing_back(monkeypatch):
    asked = []
    for library in (SimpleNamespace(malloc_trim=asked.append), SimpleNamespace()):
        monkeypatch.setattr(memory.ctypes, "CDLL", lambda name, found=library: found)
        memory.hand_back()
    assert asked == [0]


def test_numbers_do_not_change():
    matrix = torch.arange(250_000.0).reshape(500, 500).sin()
    before = matrix @ matrix
    with memory.freed_memory_kept():
        inside = matrix @ matrix
    assert torch.equal(before, inside)


def test_kept_memory_can_be_handed_back_inside_the_block(monkeypatch):
    asked = []
    library = SimpleNamespace(
        mallopt=lambda *words: None, malloc_trim=lambda pad: asked.append(pad)
    )
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: library)
    with memory.freed_memory_kept() as hand_back:
        hand_back()
        assert asked == [0]
    assert asked == [0, 0]
