"""The result of a format's reader: annotations and splits of the images in a folder."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from detection.data.annotations import Annotation
from detection.data.folder import DataFolder


@dataclass
class Source:
    """The annotated images of a folder in one format.

    Attributes:
        folder: of the data.
        described: the format and its files, for messages.
        annotations: by image, relative to the folder.
        splits: of images whose split does not come from their folder.
    """

    folder: DataFolder
    described: str
    annotations: dict[Path, Annotation] = field(default_factory=dict)
    splits: Mapping[Path, str] = field(default_factory=dict)

    def add(self, image: Path, annotation: Annotation) -> None:
        """Add an image's annotation.

        Raises:
            ValueError: the image already has one.
        """
        if image in self.annotations:
            first, second = self.annotations[image].source, annotation.source
            raise ValueError(
                f"{self.folder.root / image} is annotated twice, by {first} and by {second}; keep "
                "one of them"
            )
        self.annotations[image] = annotation

    def split_of(self, image: Path) -> str | None:
        """The split of an image; None if it is unknown."""
        return self.splits.get(image) or self.folder.split_of(image)


def number(text: object, source: str, what: str) -> float:
    """A value from a file as a finite number.

    Raises:
        ValueError: the value is not a finite number.
    """
    try:
        value = math.nan if isinstance(text, bool) else float(text)  # type: ignore[arg-type]
    except (OverflowError, TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{source} has {shown(text)} for {what}; expected a number")
    return value


def flag(value: object, source: str, what: str) -> bool:
    """Whether a flag is set: 0, 1, true or false, also as text; a missing flag is not set.

    Raises:
        ValueError: the value is something else.
    """
    known = {"": False, "0": False, "1": True, "false": False, "true": True}
    text = "" if value is None else str(value).strip().lower().removesuffix(".0")
    if text not in known:
        raise ValueError(f"{source} has {shown(value)} for {what}; expected 0 or 1")
    return known[text]


def shown(value: object) -> str:
    """A value for a message, cut off after 77 characters if it has more than 80."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def as_size(height: object, width: object, source: str) -> tuple[int, int] | None:
    """(height, width) from a file; None if a side is missing or zero.

    Raises:
        ValueError: a side is not a number.
    """
    sides = [int(number(side or 0, source, "the image's size")) for side in (height, width)]
    return (sides[0], sides[1]) if min(sides) > 0 else None
