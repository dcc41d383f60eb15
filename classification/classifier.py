"""A trained classifier: an image in, classes with their probabilities out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from classification.network import PyramidClassifier, load_classifier
from classification.scorer import ViewScorer
from classification.views import ViewKind
from detection.machine import ready
from files.images import given_image


@dataclass(frozen=True)
class Classifier:
    """A network with the names of its classes.

    Attributes:
        network: logits ``(B, K)``.
        classes: K names.
        trained: what it was trained on and how, for the record.
    """

    network: PyramidClassifier
    classes: tuple[str, ...]
    trained: dict[str, Any]

    @classmethod
    def load(cls, path: str | Path, *, device: str | torch.device = "cpu") -> "Classifier":
        """Read the file that a training left.

        Args:
            path: a run's classifier.safetensors.
            device: where the network runs.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is damaged, or no classifier of this version.
            RuntimeError: the device cannot be used.
        """
        network, classes, trained = load_classifier(path)
        return cls(network.to(ready(device)), tuple(classes), trained)

    @property
    def crop(self) -> int:
        """The training size: the side of what the network saw, in pixels."""
        return int(self.trained["training"]["crop"])

    def scorer(self, views: ViewKind | None = None, size: int | None = None) -> ViewScorer:
        """What gives probabilities by these views.

        Args:
            views: as ``views.inputs_of``; None takes the full image where there is a pyramid, else
                the centre crop.
            size: the shorter side that images are resized to; None takes that of training.

        Raises:
            ValueError: as ``ViewScorer``.
        """
        if views is None:
            views = "full" if self.network.crop is None else "centre"
        size = int(self.trained["shorter_side"]) if size is None else size
        return ViewScorer(self.network, views, self.crop, size)

    def classify(
        self,
        image: str | Path | Image.Image | NDArray[np.uint8],
        *,
        views: ViewKind | None = None,
        size: int | None = None,
    ) -> list[tuple[str, float]]:
        """The classes of an image, the most probable first.

        Args:
            image: RGB uint8 ``(H, W, 3)``, an image of Pillow's, or an image's path.
            views: as ``scorer``.
            size: as ``scorer``.

        Returns:
            ``(class, probability)`` of all K; the probabilities sum to 1.

        Raises:
            FileNotFoundError, ValueError: the image is missing or unreadable, or no RGB uint8; or
                as ``scorer``.
            TypeError: it is no image, such as a list.
        """
        image = given_image(image)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(
                f"an image must be uint8 (H, W, 3), got {image.dtype} of shape {image.shape}"
            )
        (found,) = self.scorer(views, size).probabilities([image])
        order = np.argsort(-found, kind="stable")
        return [(self.classes[k], float(found[k])) for k in order]
