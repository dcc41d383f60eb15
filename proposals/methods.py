"""The choice of a window method: selective search, EdgeBoxes, both, or a file of windows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from files.names import content_key
from proposals.edge_boxes import EdgeBoxes
from proposals.imported import ImportedWindows, name_of_file
from proposals.selective_search import SelectiveSearch
from proposals.soft_order import first_of_equals


@dataclass(frozen=True)
class Proposals:
    """Where windows come from.

    Attributes:
        method: where windows come from; "both" uses the windows of both methods, as the paper does
            to train detectors that are tested on EdgeBoxes alone (4.3). "file" is for windows made
            elsewhere.
        selective_search: parameters of selective search.
        edge_boxes: parameters of EdgeBoxes.
        file: file of windows for the method "file": .mat, .npz or .csv; see
            ``proposals/window_files.py``.

    Raises:
        ValueError: a file without the method "file", or the method "file" without a file.
    """

    method: Literal["selective_search", "edge_boxes", "both", "file"] = "selective_search"
    selective_search: SelectiveSearch = field(default_factory=SelectiveSearch)
    edge_boxes: EdgeBoxes = field(default_factory=EdgeBoxes)
    file: str | None = None

    def __post_init__(self) -> None:
        if (self.file is None) == (self.method == "file"):
            raise ValueError(
                f"the method 'file' needs a file of windows in 'file', other methods have none; "
                f"got method {self.method!r} and file {self.file!r}"
            )

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "Proposals":
        """The object from the result of ``dataclasses.asdict``."""
        return cls(
            settings["method"],
            SelectiveSearch(**settings["selective_search"]),
            EdgeBoxes(**settings["edge_boxes"]),
            settings["file"],
        )

    @property
    def parts(self) -> tuple[SelectiveSearch | EdgeBoxes | ImportedWindows, ...]:
        """The methods in use."""
        if self.file is not None:
            return (ImportedWindows(self.file),)
        if self.method == "both":
            return self.selective_search, self.edge_boxes
        return (getattr(self, self.method),)

    @property
    def name(self) -> str:
        """The methods' names, for tables; a file of windows need not exist."""
        if self.file is not None:
            return name_of_file(self.file)
        return "+".join(part.name for part in self.parts)

    @property
    def key(self) -> str:
        """Key that changes whenever the same image could give other windows.

        With one method, this is the method's key.
        """
        keys = [part.key for part in self.parts]
        return keys[0] if len(keys) == 1 else content_key({"union": keys})

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Windows ``(P, 4)`` of an RGB image ``(H, W, 3)`` uint8, P at least 1; see the methods."""
        return union([part(image) for part in self.parts])


def union(windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Lists of windows, concatenated, without duplicates."""
    if len(windows) == 1:
        return windows[0]
    together = np.concatenate(windows)
    return together[first_of_equals(together)]
