"""Rows of matrices that lie in artefacts, read when they are asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from files.artefacts import data_offset
from files.reading import unread


@dataclass(frozen=True)
class RowFile:
    """Some rows of a float16 matrix in an artefact, read when asked for.

    Thousands of these can exist at once: nothing is open between two reads.

    Attributes:
        path: the file.
        offset: byte at which the matrix begins.
        length: D, numbers in a row.
        first: first row.
        count: number of rows.
    """

    path: Path
    offset: int
    length: int
    first: int
    count: int

    @classmethod
    def of(cls, path: Path, name: str, matrix: NDArray[np.float16]) -> "RowFile":
        """All rows of an artefact's array, which was read and found whole as ``matrix``."""
        return cls(path, data_offset(path, name), matrix.shape[1], 0, len(matrix))

    def __len__(self) -> int:
        return self.count

    def part(self, first: int, count: int) -> "RowFile":
        """``count`` of these rows, from the one numbered ``first`` on."""
        return replace(self, first=self.first + first, count=count)

    def read(self, row: int = 0, count: int | None = None) -> NDArray[np.float16]:
        """``(count, D)`` from one of these rows on; all of them by default.

        Raises:
            OSError: the system does not give all of them.
        """
        count = self.count if count is None else count
        start = self.offset + 2 * self.length * (self.first + row)
        numbers = np.fromfile(self.path, np.float16, count * self.length, offset=start)
        if len(numbers) < count * self.length:  # all that NumPy tells of an error of the disk
            raise unread(self.path, OSError("it was whole, and now ends early"))
        return numbers.reshape(count, self.length)


class StackedRows:
    """Rows of many files as if they were one matrix.

    Args:
        parts: rows of one length.

    Attributes:
        shape: (sum of the parts' rows, D).
    """

    def __init__(self, parts: Sequence[RowFile]) -> None:
        counts = [len(part) for part in parts]
        self.parts = parts
        self.shape = (sum(counts), parts[0].length)
        self._part = np.repeat(np.arange(len(parts)), counts)
        self._row = np.concatenate([np.arange(count) for count in counts])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        """Rows by index, ``(len(rows), D)``, in the order asked for."""
        gathered = np.empty((len(rows), self.shape[1]), np.float16)
        for place, row in enumerate(rows):
            gathered[place] = self.parts[self._part[row]].read(int(self._row[row]), 1)[0]
        return gathered
