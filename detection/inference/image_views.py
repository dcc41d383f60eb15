"""An image as a detector sees it: as it is, and mirrored left to right where that is asked for.

Windows and boxes are those of the image itself in both views. What the network makes of the two
differs, as it is not symmetric; means of scores and boxes err less than either.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.boxes import flip_boxes
from detection.features.extractor import Extractor, WindowFeatures


@dataclass(frozen=True)
class ImageView:
    """One view, whose maps are computed once.

    Attributes:
        features_of: features of windows of the view.
        mirrored: width of the image in pixels where the view is mirrored, else None.
    """

    features_of: Callable[[NDArray], WindowFeatures]
    mirrored: int | None = None

    def turned(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes ``(..., 4)`` of the image in the view, and those of the view in the image."""
        return boxes if self.mirrored is None else flip_boxes(boxes, self.mirrored)


def views_of(image: NDArray[np.uint8], extractor: Extractor, *, flip: bool) -> list[ImageView]:
    """The views of an image ``(H, W, 3)``; the mirrored one only with ``flip``."""
    views = [ImageView(extractor.of_image(image))]
    if flip:
        mirrored = np.ascontiguousarray(image[:, ::-1])
        views.append(ImageView(extractor.of_image(mirrored), image.shape[1]))
    return views
