"""The view of an image for a fixed network: its centre, the full image, or the image as a square.

These are the views of the paper's Tables 6 and 7. With a shorter side s, a crop is the centre of
the resized image, the full image keeps its aspect ratio, and a warped image is s x s.
"""

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from detection.features.resizing import resized_size

Kind = Literal["crop", "full", "warp"]
KINDS = ("crop", "full", "warp")
SIZES = (32, 2048)


@dataclass(frozen=True)
class View:
    """A way to resize an image.

    Attributes:
        kind: crop, full or warp.
        size: shorter side of the resized image, in pixels, 32 to 2048.
    """

    kind: Kind
    size: int

    @classmethod
    def parse(cls, text: str) -> "View":
        """The view from text such as ``full-392``.

        Raises:
            ValueError: the text is not a kind and a size.
        """
        kind, _, size = text.partition("-")
        if kind not in KINDS or not size.isdecimal() or not SIZES[0] <= int(size) <= SIZES[1]:
            raise ValueError(
                f"a view must be {', '.join(KINDS)} with a size from {SIZES[0]} to {SIZES[1]} "
                f"pixels, such as full-392; got {text!r}"
            )
        return cls(kind, int(size))  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"{self.kind}-{self.size}"

    def of(self, pixels: Tensor) -> Tensor:
        """The view of a preprocessed image ``(1, 3, H, W)``, float32.

        Resizing is bilinear with antialiasing, as in the training of ImageNet's networks. If an
        image is so long and thin that its shorter side stays below ``size``, it is padded with
        zeros, the mean.

        Returns:
            ``(1, 3, size, size)`` for a crop or a warped image, otherwise ``(1, 3, h, w)``.
        """
        height, width = pixels.shape[2:]
        size = (self.size, self.size)
        if self.kind != "warp":
            size = resized_size((height, width), self.size)
        resized = F.interpolate(
            pixels, size=size, mode="bilinear", align_corners=False, antialias=True
        )
        missing = [max(self.size - side, 0) for side in size]
        if any(missing):
            resized = F.pad(resized, (0, missing[1], 0, missing[0]))
        if self.kind == "crop":
            top, left = ((side - self.size) // 2 for side in resized.shape[2:])
            resized = resized[:, :, top : top + self.size, left : left + self.size]
        return resized
