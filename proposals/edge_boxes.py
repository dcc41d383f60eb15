"""EdgeBoxes (Zitnick and Dollar, ECCV 2014) by opencv-contrib, on any edge map.

A window scores high if many edges are entirely inside it and few cross its border. OpenCV has the
first version of the paper's code. OpenCV's own edge maps need a model file that is not on the
package index; ``proposals/edges.py`` makes better edge maps without it.

The same edge maps divide the image into regions. Windows around regions fit objects more closely
(``proposals/edge_regions.py``), and are mixed with EdgeBoxes' own. The paper does not have them.
"""

import math
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from files.names import content_key
from proposals.edge_regions import region_windows
from proposals.edges import (
    EdgeSource,
    ForestEdges,
    GradientEdges,
    LearnedEdges,
    orientation,
    thin,
)
from proposals.opencv import check_image, one_thread, opencv, shrink_to_working_size
from proposals.soft_order import first_of_equals, soft_order

# Part of every key: raise it when the same parameters start to give other windows.
VERSION = 4

# OpenCV's search. All values except eta are OpenCV's defaults, written out so that another version
# of OpenCV does not change the windows. A change here changes every key.
SEARCH = {
    "alpha": 0.65,  # step of the sliding windows, as IoU of neighbours
    "beta": 0.75,  # IoU above which the worse of two windows is dropped
    "eta": 0.9999,  # factor on beta after each window kept: fewer near-equal late windows
    "minScore": 0.01,
    "edgeMinMag": 0.1,  # weaker edges are ignored
    "edgeMergeThr": 0.5,  # larger joins fewer edge pixels to a group
    "clusterMinMag": 0.5,  # groups of less strength are ignored
    "maxAspectRatio": 3.0,
    "gamma": 2.0,  # how fast the number of windows of one shape falls with size
    "kappa": 1.5,  # how strongly the perimeter lowers the score of large windows
}

# With a smaller min_box_area, OpenCV's best windows are single pixels with infinite scores.
SMALLEST = 16


@dataclass(frozen=True)
class EdgeBoxes:
    """EdgeBoxes with its parameters; call it with an image, get its windows.

    Attributes:
        edges: where edge maps come from; "learned" is the network that comes with the package,
            "gradient" needs no network, "forest" needs a file of OpenCV's structured forests.
        model: file of the structured forest, or for "learned" of another edge network than the
            package's (tools/train_edges.py makes one).
        max_windows: largest number of windows per image; the best are kept.
        candidates: number of windows that OpenCV finds; the best of them are taken, those that
            score high and differ from better ones (``proposals/soft_order.py``).
        decay: how much each window already taken lowers the score of an overlapping candidate,
            from 0 to 0.99; by this factor times the part of their IoU above ``decay_iou``. 0 keeps
            OpenCV's order.
        decay_iou: IoU above which ``decay`` counts, from 0 to 0.99.
        regions: share of the windows that come from regions, from 0 to 0.9; fewer if there are not
            enough regions. 0: EdgeBoxes' own windows only.
        min_box_area: smallest window in square pixels, 16 or more, before OpenCV refines its
            sides. OpenCV's default, 1000, excludes all windows below 32x32, the size of 1 in 26
            objects of VOC 2007 train.

    Raises:
        ValueError: a value is outside the ranges above.
    """

    edges: Literal["learned", "gradient", "forest"] = "learned"
    model: str | None = None
    max_windows: int = 2000
    candidates: int = 4000
    decay: float = 0.4
    decay_iou: float = 0.5
    regions: float = 0.25
    min_box_area: float = 400.0

    def __post_init__(self) -> None:
        if self.edges == "forest" and self.model is None:
            raise ValueError("edges 'forest' needs the file of a structured forest in 'model'")
        if self.edges == "gradient" and self.model is not None:
            raise ValueError(f"edges 'gradient' has no model; got {self.model!r}")
        for name, low, high in (
            ("max_windows", 1, math.inf),
            ("candidates", 1, math.inf),
            ("decay", 0, 0.99),
            ("decay_iou", 0, 0.99),
            ("regions", 0, 0.9),
            ("min_box_area", SMALLEST, math.inf),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must be from {low:g} to {high:g}, got {value}")

    @property
    def source(self) -> EdgeSource:
        """What makes the edge maps."""
        if self.edges == "gradient":
            return GradientEdges()
        if self.edges == "learned":
            return LearnedEdges() if self.model is None else LearnedEdges(self.model)
        return ForestEdges(self.model or "")

    @property
    def name(self) -> str:
        """Name of the method, for folders and tables."""
        return f"edge_boxes_{self.source.name}" + ("_regions" if self.regions else "")

    @property
    def key(self) -> str:
        """16 digits that change with the parameters, the edges, OpenCV's and this code's version.

        Raises:
            FileNotFoundError: the model's file is missing.
        """
        parameters = asdict(self)
        # The file counts by its bytes, which are in the source's key.
        del parameters["model"]
        version = opencv().__version__
        return content_key(
            {
                "method": "edge_boxes",
                "version": VERSION,
                "opencv": version,
                "source": self.source.key,
                "search": SEARCH,
                "parameters": parameters,
            }
        )

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The windows of ``scored`` without their scores."""
        return self.scored(image)[0]

    def scored(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Windows of an image and their scores, from high to low; the same on every run.

        An image with a side over 500 pixels is shrunk to that size for the search, and
        ``min_box_area`` refers to the shrunk image.

        Args:
            image: ``(H, W, 3)`` uint8 RGB, at least one pixel.

        Returns:
            ``(P, 4)`` float32 windows ``(x1, y1, x2, y2)``, half-open pixels inside the image, and
            ``(P,)`` float32 scores, lowered by earlier windows (``proposals/soft_order.py``). A
            region's window has the score of the EdgeBoxes window before it. P is never 0: if
            nothing is found, the whole image is the only window, with score 0.

        Raises:
            ValueError: the image is not ``(H, W, 3)`` uint8 or has no pixel.
            FileNotFoundError: the model's file is missing.
            RuntimeError: OpenCV is missing or has no ``ximgproc`` module.
        """
        check_image(image, "EdgeBoxes")
        with one_thread():
            return self._scored(image)

    def _scored(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """``scored``, when OpenCV uses one thread."""
        searched = shrink_to_working_size(image)
        edges = self.source(searched)
        directions = orientation(edges)
        # OpenCV ignores edges below edgeMinMag, so they need no thinning.
        thinned = thin(edges, directions, SEARCH["edgeMinMag"])
        corners, scores = self._search(thinned, directions)
        height, width = searched.shape[:2]
        corners = corners.clip(0, [width, height] * 2)
        # OpenCV may refine small windows to one pixel or none, and gives these infinite scores.
        whole = (corners[:, :2] < corners[:, 2:]).all(axis=1) & np.isfinite(scores)
        corners, scores = corners[whole], scores[whole]
        order, scores = soft_order(corners, scores, self.max_windows, self.decay, self.decay_iou)
        corners = corners[order]
        if self.regions:
            others = region_windows(edges, searched, self.min_box_area)
            corners, scores = self._with_regions(corners, scores, others)
        if not len(corners):
            corners, scores = np.array([[0.0, 0, width, height]]), np.zeros(1)
        factor = np.array([image.shape[1] / width, image.shape[0] / height] * 2)
        return (corners * factor).astype(np.float32), scores.astype(np.float32)

    def _with_regions(
        self, corners: NDArray, scores: NDArray, others: NDArray
    ) -> tuple[NDArray, NDArray]:
        """Windows and their scores, with ``others``, the windows of regions, evenly among them.

        A smaller ``max_windows`` gives the beginning of the same list.
        """
        together = np.concatenate([corners, others])
        places = np.concatenate(
            [
                (np.arange(len(corners)) + 0.5) / (1 - self.regions),
                (np.arange(len(others)) + 0.5) / self.regions,
            ]
        )
        order = np.argsort(places, kind="stable")
        before = np.maximum.accumulate(np.where(order < len(corners), order, -1))
        kept = first_of_equals(together[order])[: self.max_windows]
        return together[order[kept]], np.append(scores, 0)[before[kept]]

    def _search(
        self, edges: NDArray[np.float32], directions: NDArray[np.float32]
    ) -> tuple[NDArray, NDArray]:
        """Corners ``(P, 4)`` and scores ``(P,)`` that OpenCV finds on an edge map."""
        # OpenCV's grid needs a pixel between two neighbours, which OpenCV does not check.
        if min(edges.shape) < 3:
            return np.zeros((0, 4)), np.zeros(0)
        search = opencv().ximgproc.createEdgeBoxes(
            maxBoxes=max(self.candidates, self.max_windows),
            minBoxArea=self.min_box_area,
            **SEARCH,
        )
        boxes, scores = search.getBoundingBoxes(edges, directions)
        corners = np.asarray(boxes, np.float64).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        # (P, 1) in OpenCV 4, (P,) in 5; if 4.10 finds nothing, it returns one score, NaN.
        return corners, np.asarray(scores, np.float64).ravel()[: len(corners)]
