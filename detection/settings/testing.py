"""Settings of detection and of tests."""

from dataclasses import dataclass
from typing import Literal

from detection.settings.ranges import require


@dataclass(frozen=True)
class Detection:
    """From windows to detections.

    Attributes:
        layer: layer whose SVMs score windows, or softmax; 'fc6+fc7' is the mean of both layers'
            scores. None uses the last layer that SVMs were trained on.
        bbox: move the detected windows by box regression.
        bbox_passes: passes of box regression; each pass pools features from the boxes of the pass
            before. The paper has 1.
        flip: score the mirror image too; scores and boxes are the means of both. The network
            takes twice as long; windows are made once.
        fc_rank: truncate fc6 to this rank: faster, approximate; fc7 to twice this rank, each to at
            most 512. None uses the whole layers.
        score_threshold: a window must score above this for a class.
        candidates: number of best windows per class and image that enter suppression.
        nms_iou: overlap above which the lower-scored window is suppressed.
        top_k: number of detections kept per class and image.
        vote_iou: box voting by candidates that overlap this much; a detection's box becomes the
            mean, weighted by score, of all candidates of its class that overlap it by at least
            this (0.5 in Gidaris and Komodakis 2015). None: no voting, as in the paper.
    """

    layer: Literal["pool5", "fc6", "fc7", "fc6+fc7", "softmax"] | None = None
    bbox: bool = True
    bbox_passes: int = 1
    flip: bool = False
    fc_rank: int | None = None
    score_threshold: float = -1.5
    candidates: int = 300
    nms_iou: float = 0.3
    top_k: int = 100
    vote_iou: float | None = None

    def __post_init__(self) -> None:
        require(
            self,
            score_threshold=(-1e9, 1e9),
            bbox_passes=(1, 10),
            candidates=(1, 100_000),
            nms_iou=(0, 1),
            top_k=(1, 100_000),
        )
        if self.fc_rank is not None:
            require(self, fc_rank=(1, 512))
        if self.vote_iou is not None:
            require(self, vote_iou=(0.01, 1))


@dataclass(frozen=True)
class Report:
    """What a test writes besides the table.

    Attributes:
        images: number of test images to draw with their detections.
        csv: table to which rows of results are added.
        json: file for the results and the facts of the run.
    """

    images: int = 12
    csv: str | None = None
    json: str | None = None

    def __post_init__(self) -> None:
        require(self, images=(0, 100_000))
