"""Images in other light and colour, so that the same windows are never seen twice."""

import numpy as np
import torch
from numpy.typing import NDArray


def jitter_light(
    image: NDArray[np.uint8], strength: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """An image with other brightness, contrast and saturation (Howard, arXiv:1312.5402).

    Args:
        image: ``(H, W, 3)`` RGB uint8; not changed.
        strength: each factor is uniform in [1 - strength, 1 + strength]; 0 leaves the image.
        rng: of the three factors.

    Returns:
        A new image, or the same array for strength 0 or without pixels.
    """
    if strength == 0:
        return image
    light, contrast, colour = rng.uniform(1 - strength, 1 + strength, size=3)
    if not image.size:
        return image
    from torchvision.transforms.v2 import functional as transforms  # imports torch._dynamo

    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)
    pixels = transforms.adjust_brightness(pixels, light)
    pixels = transforms.adjust_contrast(pixels, contrast)
    pixels = transforms.adjust_saturation(pixels, colour)
    return np.asarray(pixels.permute(1, 2, 0).numpy())
