"""A trained classifier, which gives the classes of an image with their probabilities."""

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
        network: computes logits ``(B, K)``.
        classes: K names.
        trained: facts about the training: data and settings.
    """

    network: PyramidClassifier
    classes: tuple[str, ...]
    trained: dict[str, Any]

    @classmethod
    def load(cls, path: str | Path, *, device: str | torch.device = "cpu") -> "Classifier":
        """Read the file that a training wrote.

        Args:
            path: a run's classifier.safetensors.
            device: where the network runs.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is damaged, or not a classifier of this version.
            RuntimeError: the device cannot be used.
        """
        network, classes, trained = load_classifier(path)
        return cls(network.to(ready(device)), tuple(classes), trained)

    @property
    def crop(self) -> int:
        """The training size: the side in pixels of the crops used in training."""
        return int(self.trained["training"]["crop"])

    def scorer(self, views: ViewKind | None = None, size: int | None = None) -> ViewScorer:
        """A scorer that computes probabilities with these views.

        Args:
            views: see ``views.inputs_of``; None: the full image with a pyramid, otherwise the
                centre crop.
            size: the shorter side to which images are resized; None: the side used in training.

        Raises:
            ValueError: see ``ViewScorer``.
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
            image: RGB uint8 ``(H, W, 3)``, a Pillow image, or an image's path.
            views: see ``scorer``.
            size: see ``scorer``.

        Returns:
            ``(class, probability)`` for all K classes; the probabilities sum to 1.

        Raises:
            FileNotFoundError, ValueError: the image is missing, unreadable or not RGB uint8; or see
                ``scorer``.
            TypeError: ``image`` is not an image, but for example a list.
        """
        image = given_image(image)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(
                f"an image must be uint8 (H, W, 3), got {image.dtype} of shape {image.shape}"
            )
        (found,) = self.scorer(views, size).probabilities([image])
        order = np.argsort(-found, kind="stable")
        return [(self.classes[k], float(found[k])) for k in order]
