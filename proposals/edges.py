"""Edge maps for EdgeBoxes, with the orientation of edges and thinning to a width of one pixel.

A source turns an RGB image into a map of edge strength, 0 to 1. ``orientation`` and ``thin`` return
the same as OpenCV's ``computeOrientation`` and ``edgesNms``, which need the file of a structured
forest.
"""

from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from files.names import content_key
from files.writing import content_digest, kept_by_content
from proposals.opencv import check_image, opencv

# Radius of the triangle filter before second derivatives (Dollar's toolbox).
ORIENTATION_RADIUS = 4
# An edge pixel is compared with this many pixels on each side of the edge.
THIN_RADIUS = 2


class EdgeSource(Protocol):
    """A way to make edge maps."""

    @property
    def name(self) -> str:
        """Short name for tables."""

    @property
    def key(self) -> str:
        """Key that changes whenever the same image could give another map."""

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Edge strength ``(H, W)`` in [0, 1] of an RGB uint8 image ``(H, W, 3)``."""


@dataclass(frozen=True)
class GradientEdges:
    """Gradient strength, the maximum over the channels (no data, no model).

    Attributes:
        sigma: width in pixels of the Gaussian that smooths the image first.
    """

    sigma: float = 1.5

    @property
    def name(self) -> str:
        """For tables."""
        return "gradient"

    @property
    def key(self) -> str:
        """16 digits."""
        return content_key({"edges": self.name, **asdict(self), "opencv": opencv().__version__})

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The map ``(H, W)``: 1 where the gradient is at its 99th percentile or above."""
        check_image(image, "an edge map")
        cv2 = opencv()
        smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), self.sigma)
        across, down = cv2.Sobel(smooth, -1, 1, 0), cv2.Sobel(smooth, -1, 0, 1)
        strength = np.sqrt(across * across + down * down).max(axis=2)
        # At least 1, so that rounding makes no edges in a uniform image. A step of one grey level
        # has a strength of 2.
        strong = max(float(np.percentile(strength, 99)), 1.0)
        return np.asarray(np.minimum(strength / np.float32(strong), 1), np.float32)


@dataclass(frozen=True)
class LearnedEdges:
    """Boundaries of objects from a network that ``tools/train_edges.py`` trained.

    Attributes:
        model: the network's file; by default the one that comes with the package.
        power: exponent of the strengths; above 1, uncertain edges count less (docs/decisions.md).
    """

    model: str = str(Path(__file__).with_name("edges.safetensors"))
    power: float = 1.5

    @property
    def name(self) -> str:
        """For tables."""
        return "learned"

    @property
    def key(self) -> str:
        """16 digits.

        Raises:
            FileNotFoundError: no such file.
        """
        return content_key(
            {
                "edges": self.name,
                "model": content_digest(self._path()),
                "power": self.power,
                "torch": version("torch"),
            }
        )

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The map ``(H, W)``.

        Raises:
            FileNotFoundError, ValueError: no such file, or it is not an edge network.
        """
        check_image(image, "an edge map")
        # Imported here because torch takes seconds to import, and the rest of proposals/ does not
        # need it.
        from proposals.edge_network import find_edges, load_edges

        return find_edges(load_edges(str(self._path())), image) ** np.float32(self.power)

    def _path(self) -> Path:
        path = Path(self.model)
        if not path.is_file():
            raise FileNotFoundError(f"no edge network at {path}; tools/train_edges.py trains one")
        return path


@dataclass(frozen=True)
class ForestEdges:
    """Structured forests (Dollar and Zitnick, ICCV 2013) by OpenCV, from the user's model file.

    Attributes:
        model: file in OpenCV's format, such as ``model.yml.gz`` of opencv_extra.
    """

    model: str

    @property
    def name(self) -> str:
        """For tables."""
        return "forest"

    @property
    def key(self) -> str:
        """16 digits.

        Raises:
            FileNotFoundError: no such model.
        """
        return content_key(
            {
                "edges": self.name,
                "model": content_digest(self._path()),
                "opencv": opencv().__version__,
            }
        )

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The map ``(H, W)``.

        Raises:
            FileNotFoundError: no such model.
            ValueError: the file is not a structured forest.
        """
        check_image(image, "an edge map")
        detector = _forest(str(self._path()))
        edges = detector.detectEdges(np.float32(image) / np.float32(255))
        return np.asarray(np.clip(edges, 0, 1), np.float32)

    def _path(self) -> Path:
        path = Path(self.model)
        if not path.is_file():
            raise FileNotFoundError(
                f"no structured forest at {path}; OpenCV's is testdata/cv/ximgproc/model.yml.gz of "
                "its opencv_extra repository, and 'learned' edges need no file"
            )
        return path


@kept_by_content
def _forest(path: str) -> Any:
    cv2 = opencv()
    try:
        return cv2.ximgproc.createStructuredEdgeDetection(path)
    except cv2.error as error:
        raise ValueError(
            f"{path} is not a structured forest that OpenCV reads ({error})"
        ) from error


def orientation(edges: NDArray[np.float32]) -> NDArray[np.float32]:
    """The direction across the edge at every pixel, ``(H, W)`` radians in [0, pi]; 0 is along x.

    It is computed from the second derivatives of the smoothed map.
    """
    cv2 = opencv()
    rising = np.arange(1, ORIENTATION_RADIUS + 2, dtype=np.float32)
    kernel = np.concatenate([rising, rising[-2::-1]]) / np.float32((ORIENTATION_RADIUS + 1) ** 2)
    smooth = cv2.sepFilter2D(edges, -1, kernel, kernel)
    xx, xy, yy = (cv2.Sobel(smooth, -1, *order) for order in ((2, 0), (1, 1), (0, 2)))
    angle = np.arctan(yy * -np.sign(xy) / (xx + np.float32(1e-5)))
    return np.asarray(np.where(angle > 0, angle, angle + np.float32(np.pi)), np.float32)


def thin(
    edges: NDArray[np.float32], directions: NDArray[np.float32], least: float = 0.0
) -> NDArray[np.float32]:
    """Edges ``(H, W)`` with 0 where a neighbour across the edge is stronger.

    Args:
        edges: edge map ``(H, W)``.
        directions: from ``orientation``.
        least: pixels up to this strength become 0 without a comparison, which saves most of the
            time.
    """
    height, width = edges.shape
    rows, columns = np.nonzero(edges > least)
    strength, angle = edges[rows, columns], directions[rows, columns]
    if min(height, width) < 2:
        return edges * (edges > least)
    kept = np.ones(len(rows), np.bool_)
    cosine, sine = np.cos(angle), np.sin(angle)
    for step in (*range(-THIN_RADIUS, 0), *range(1, THIN_RADIUS + 1)):
        x = np.clip(columns + step * cosine, 0, width - 1.001)
        y = np.clip(rows + step * sine, 0, height - 1.001)
        kept &= strength >= _between(edges, x, y)
    thinned = np.zeros_like(edges)
    thinned[rows[kept], columns[kept]] = strength[kept]
    return thinned


def _between(map: NDArray[np.float32], x: NDArray, y: NDArray) -> NDArray:
    """Bilinear values of a map at points inside it."""
    left, top = x.astype(np.int64), y.astype(np.int64)
    right, low = (x - left).astype(np.float32), (y - top).astype(np.float32)
    flat, width = map.ravel(), map.shape[1]
    at = top * width + left
    upper = flat[at] * (1 - right) + flat[at + 1] * right
    lower = flat[at + width] * (1 - right) + flat[at + width + 1] * right
    return upper * (1 - low) + lower * low
