"""Ranges of settings."""

from typing import Any


def require(settings: Any, **allowed: tuple[float, float]) -> None:
    """Check that number fields of a settings object lie in closed ranges.

    Raises:
        ValueError: naming the first field outside its range, its value and the range.
    """
    for name, (low, high) in allowed.items():
        value = getattr(settings, name)
        if not low <= value <= high:
            owner = type(settings).__name__
            raise ValueError(f"{owner}.{name} must be from {low:g} to {high:g}, got {value}")
