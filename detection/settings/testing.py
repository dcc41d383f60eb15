"""Settings of detection and of tests."""

from dataclasses import dataclass
from typing import Literal

from detection.settings.ranges import require


@dataclass(frozen=True)
class Detection:
    """From windows to detections.

    Attributes:
        layer: layer whose SVMs score windows, or softmax; 'fc6+fc7' is the mean of both layers'
            scores. None takes the last layer that SVMs were trained on.
        bbox: move the detected windows by box regression.
        bbox_passes: passes of box regression, each on the features of the box from the pass
            before; 1 is the paper's.
        flip: score the mirrored image too; scores and boxes are the means of both. The network
            takes twice the time; windows are made once.
        fc_rank: truncate fc6 to this rank, which is faster and approximate; fc7 to twice as much,
            at most 512 either. None takes them whole.
        score_threshold: a window must score above this for a class.
        candidates: best windows of a class and image that enter suppression.
        nms_iou: overlap above which the lower-scored window is suppressed.
        top_k: detections kept of a class and image.
        vote_iou: box voting by candidates that overlap this much; a detection's box becomes the
            mean, weighted by score, of the class's candidates that overlap it by at least this
            (Gidaris and Komodakis 2015, where it is 0.5). None leaves boxes as they are, as the
            paper does.
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
    """What a test leaves besides the table.

    Attributes:
        images: number of test images to draw with their detections.
        csv: table to add rows of results to.
        json: file for the results with the facts of the run.
    """

    images: int = 12
    csv: str | None = None
    json: str | None = None

    def __post_init__(self) -> None:
        require(self, images=(0, 100_000))
