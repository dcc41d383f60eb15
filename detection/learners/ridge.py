"""Ridge regression on samples that lie on disk, in memory that does not depend on their number."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.blas import ssyrk

# Samples read at a time: 52 MB of pooled features.
BLOCK = 1024


class Rows(Protocol):
    """Features for the fit: a matrix whose rows can be indexed."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(n, D)``."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray: ...


@dataclass(frozen=True)
class Samples:
    """The samples of one class, of which few are in memory at a time.

    Attributes:
        features: holds the samples, and others.
        rows: ``(n,)`` which of them are samples; n > 0.
        scale: factor on the features.
    """

    features: Rows
    rows: NDArray[np.int64]
    scale: float

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, D + 1)``."""
        return len(self.rows), self.features.shape[1] + 1

    def blocks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """The samples in order: which of the n, and a matrix ``(m, D + 1)``, the last column 1."""
        for start in range(0, len(self.rows), BLOCK):
            place = slice(start, start + BLOCK)
            rows = self.rows[place]
            block = np.ones((len(rows), self.shape[1]), np.float32)
            block[:, :-1] = self.features[rows]
            block[:, :-1] *= np.float32(self.scale)
            yield place, block

    def matrix(self) -> NDArray[np.float32]:
        """All samples, ``(n, D + 1)``."""
        matrix = np.empty(self.shape, np.float32)
        for place, block in self.blocks():
            matrix[place] = block
        return matrix


def ridge(samples: Samples, targets: NDArray[np.float32], alpha: float) -> NDArray[np.float32]:
    """Ridge regression ``(D + 1, 4)``, by the smaller of its two systems of equations.

    Neither takes more memory than two matrices of (D + 1) x (D + 1), for any number of samples.

    Args:
        samples: n of length D + 1.
        targets: ``(n, 4)``.
        alpha: penalty.

    Raises:
        LinAlgError: the penalty is too small for float32.
        ValueError: a feature is not finite.
    """
    count, length = samples.shape
    if count < length:
        matrix = samples.matrix()
        # Symmetric; the transposed one is Fortran's order, which LAPACK overwrites in place.
        dual = _solve((matrix @ matrix.T).T, targets, alpha)
        return np.asarray(matrix.T @ dual)
    gram = np.zeros((length, length), np.float32, order="F")
    moments = np.zeros((length, 4), np.float32)
    for place, block in samples.blocks():
        gram = ssyrk(1, block.T, beta=1, c=gram, lower=1, overwrite_c=1)
        moments += block.T @ targets[place]
    return _solve(gram, moments, alpha)


def _solve(
    matrix: NDArray[np.float32], right: NDArray[np.float32], alpha: float
) -> NDArray[np.float32]:
    """``(matrix + alpha I)^-1 right``; of the matrix, which is overwritten, the lower half is read.

    Raises:
        LinAlgError: with this penalty it is not positive definite in float32.
        ValueError: a number is not finite.
    """
    matrix[np.diag_indices(len(matrix))] += np.float32(alpha)
    return np.asarray(cho_solve(cho_factor(matrix, lower=True, overwrite_a=True), right))
