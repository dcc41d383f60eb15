"""What a fixed network sees of an image: its centre, all of it, or all of it squeezed to a square.

The paper's tables 6 and 7: a crop is the centre of the image at shorter side s, the full image
keeps its aspect, and a warped image is s x s whatever it was.
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
    """A way to bring an image to a size.

    Attributes:
        kind: crop, full or warp.
        size: shorter side of the resized image, in pixels, 32 to 2048.
    """

    kind: Kind
    size: int

    @classmethod
    def parse(cls, text: str) -> "View":
        """The view of a word such as ``full-392``.

        Raises:
            ValueError: the word is no kind and size.
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

        Bilinear with antialiasing, as ImageNet's networks were trained. Where an image is so long
        and thin that its shorter side stays below ``size``, the rest is zero: the mean.

        Returns:
            ``(1, 3, size, size)`` of a crop or a warped image, else ``(1, 3, h, w)``.
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
