"""The trained detector: windows in, detections out, saved as one safetensors file."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from detection.boxes import boxes_of
from detection.detections import Detections
from detection.features.extractor import Extractor, WindowFeatures
from detection.inference.detector_file import Numbers, write_detector
from detection.inference.detector_parts import packed, read_parts
from detection.inference.image_views import ImageView, Values, mean_values, moved_again, views_of
from detection.inference.layers import LayerFeatures
from detection.inference.postprocess import (
    Candidates,
    Suppression,
    by_score,
    postprocess,
    select_candidates,
)
from detection.learners.bbox_regression import BoxRegressor
from detection.learners.calibration import Calibration
from detection.learners.class_svms import ClassSVMs
from detection.machine import Precision, side_by_side
from detection.settings.testing import Detection
from files.images import given_image
from proposals.methods import Proposals

# The mean score of the SVMs of two layers, which make different errors; both see features of mean
# norm 20.
BOTH = "fc6+fc7"
# At a threshold of 0 the SVMs find a quarter of VOC's objects; at this one nearly half, and seven
# in ten detections are right (docs/decisions.md).
DISPLAY_THRESHOLD = -0.7
DISPLAY_PROBABILITY = 0.5
# The warning about a detector's scores, with its name and ``display_threshold``.
RAW_SCORES = "{} has no calibration: scores are raw, not probabilities; the default threshold is {}"


@dataclass(frozen=True)
class SPPDetector:
    """Everything between an image and its detections (paper section 4).

    Attributes:
        classes: names of the K classes.
        extractor: computes pooled features of windows: SPP-net's, or R-CNN's.
        features: fc6 and fc7 on these features, each layer scaled to mean norm 20.
        svms: one linear SVM per class, by layer.
        regressor: box regression on pooled conv5.
        proposals: makes windows for images that are given without.
        detection: which layer scores, suppression and limits.
        trained: facts of the training, for the record: split, images, seed, precision.
        calibration: from scores to probabilities, by layer; empty if no images were held back.
        told: warnings that ``detect`` has already given.
    """

    classes: tuple[str, ...]
    extractor: Extractor
    features: LayerFeatures
    svms: Mapping[str, ClassSVMs]
    regressor: BoxRegressor
    proposals: Proposals = field(default_factory=Proposals)
    detection: Detection = field(default_factory=Detection)
    trained: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Calibration] = field(default_factory=dict)
    told: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers that can score windows: those with SVMs, both fc layers together, the softmax."""
        together = (BOTH,) if {"fc6", "fc7"} <= set(self.svms) else ()
        return (*self.svms, *together, *(("softmax",) if self.features.has_softmax else ()))

    @property
    def layer(self) -> str:
        """The layer that scores windows.

        Raises:
            ValueError: the layer was not trained.
        """
        return self._trained_layer(self.detection.layer or tuple(self.svms)[-1])

    def _trained_layer(self, layer: str) -> str:
        if layer not in self.layers:
            raise ValueError(
                f"this detector scores by {', '.join(self.layers)}, not by {layer}: to use "
                f"{layer}, train with {' and '.join(layer.split('+'))} in --svm.layers"
            )
        return layer

    def _trained_layers(self, layers: Sequence[str] | None) -> list[str]:
        return [self._trained_layer(each) for each in layers or (self.layer,)]

    def score(
        self,
        image: NDArray[np.uint8],
        windows: NDArray[np.float32],
        layers: Sequence[str] | None = None,
    ) -> Values:
        """Scores ``(P, K)`` of each layer and regressed boxes ``(P, K, 4)`` of windows ``(P, 4)``.

        Args:
            image: ``(H, W, 3)`` RGB uint8.
            windows: half-open pixels of it. The boxes are not clipped.
            layers: some of ``layers``; None takes ``layer``.

        Raises:
            ValueError: a layer was not trained.
        """
        layers = self._trained_layers(layers)
        return self._mean_values(self._views(image), windows, layers)

    def _views(self, image: NDArray[np.uint8]) -> list[ImageView]:
        return views_of(image, self.extractor, flip=self.detection.flip)

    def _mean_values(
        self,
        views: Sequence[ImageView],
        windows: NDArray[np.float32],
        layers: Sequence[str],
    ) -> Values:
        """The result of ``score``: means over an image's views."""

        def values_of(windows: NDArray[np.float32], found: WindowFeatures) -> Values:
            """Scores and boxes of a view's windows ``(P, 4)``."""
            return self.score_features(windows, found, self.layer_features(found, layers), layers)

        return mean_values(views, windows, values_of)

    def layer_features(
        self, found: WindowFeatures, layers: Sequence[str]
    ) -> dict[str, NDArray[np.float32]]:
        """Features of the layers."""
        wanted = dict.fromkeys(each for layer in layers for each in layer.split("+"))
        return self.features(found.pooled, list(wanted))

    def score_features(
        self,
        windows: NDArray[np.float32],
        found: WindowFeatures,
        features: Mapping[str, NDArray[np.float32]],
        layers: Sequence[str],
    ) -> Values:
        """``score`` of windows ``(P, 4)`` whose features are already computed.

        Args:
            windows: half-open pixels.
            found: their features from the extractor.
            features: their features from ``layer_features``.
            layers: the layers whose scores are wanted.
        """
        scores = {layer: self._scores(features, layer) for layer in layers}
        boxes = self.regressor.predict(found.pooled, windows, found.index)
        return {layer: values[found.index] for layer, values in scores.items()}, boxes

    def _scores(
        self, features: Mapping[str, NDArray[np.float32]], layer: str
    ) -> NDArray[np.float32]:
        """Scores ``(U, K)`` by a layer; for two layers, the mean of their SVMs' scores."""
        if layer == "softmax":
            return features[layer]
        parts = [self.svms[each].decision_function(features[each]) for each in layer.split("+")]
        return np.asarray(np.mean(parts, axis=0))

    def candidates(
        self,
        image: NDArray[np.uint8],
        windows: NDArray[np.float32],
        layers: Sequence[str] | None = None,
    ) -> dict[str, Candidates]:
        """The best windows of each class before suppression, by each layer's scores.

        A run stores these for every image. Arguments and errors as ``score``.
        """
        return self._candidates(self._views(image), image.shape[:2], windows, layers)

    def _candidates(
        self,
        views: Sequence[ImageView],
        image_size: tuple[int, int],
        windows: NDArray[np.float32],
        layers: Sequence[str] | None = None,
    ) -> dict[str, Candidates]:
        """``candidates`` of an image of size (height, width), whose maps are already computed."""
        layers = self._trained_layers(layers)
        chosen = self.select(windows, *self._mean_values(views, windows, layers))
        for _ in range(self.detection.bbox_passes - 1):
            chosen = {
                layer: moved_again(each, views, self.regressor, image_size)
                for layer, each in chosen.items()
            }
        return chosen

    def select(
        self,
        windows: NDArray[np.float32],
        scores: Mapping[str, NDArray[np.float32]],
        boxes: NDArray[np.float32],
    ) -> dict[str, Candidates]:
        """Each layer's candidates among windows ``(P, 4)``, from the result of ``score``."""
        return {
            layer: select_candidates(
                windows,
                values,
                boxes,
                per_class=self.detection.candidates,
                score_threshold=self.detection.score_threshold,
            )
            for layer, values in scores.items()
        }

    def detect(
        self,
        image: NDArray[np.uint8] | Image.Image | str | Path,
        windows: NDArray[np.float32] | None = None,
        score_threshold: float | None = None,
    ) -> Detections:
        """Find objects in an image; a detector with raw scores gives one warning in all.

        Args:
            image: RGB uint8 ``(H, W, 3)``, an image of Pillow, or the path of an image.
            windows: ``(P, 4)`` candidate regions, an array or rows; None makes them.
            score_threshold: keep detections above this (strict): a probability if the detector is
                calibrated, otherwise a raw score. None takes ``display_threshold``.

        Returns:
            Detections of all classes, best first. If the detector is ``calibrated``, their scores
            are probabilities of being right at IoU 0.5.

        Raises:
            FileNotFoundError, ValueError: the image is missing or unreadable.
            ValueError: the windows are not rows of four numbers.
            TypeError: it is not an image; ``detect_each`` takes lists.
        """
        if not (self.shows_probabilities or self.told):
            self.told.add(RAW_SCORES)
            said = RAW_SCORES.format("this detector", self.display_threshold)
            warnings.warn(said, stacklevel=2)
        return self.search(given_image(image), windows, score_threshold)

    def search(
        self,
        image: NDArray[np.uint8],
        windows: NDArray[np.float32] | None = None,
        score_threshold: float | None = None,
    ) -> Detections:
        """``detect`` for an array, without the warning about raw scores, which tools log."""
        if windows is None:
            taken, views = side_by_side(lambda: self.proposals(image), lambda: self._views(image))
        else:
            taken, views = boxes_of(windows, "windows"), self._views(image)
        (candidates,) = self._candidates(views, image.shape[:2], taken).values()
        return self.shown(self.finish(candidates, image.shape[:2]), score_threshold)

    def detect_each(
        self,
        images: Iterable[NDArray[np.uint8] | Image.Image | str | Path],
        score_threshold: float | None = None,
    ) -> Iterator[Detections]:
        """``detect`` of many images, one after the other: a list, or anything that yields them."""
        return (self.detect(image, score_threshold=score_threshold) for image in images)

    def shown(self, found: Detections, threshold: float | None = None) -> Detections:
        """The detections of ``finish`` as users see them; arguments and result as ``detect``.

        A sigmoid keeps the order of a class's detections, so average precision does not change.
        """
        if self.calibrated:
            scores = self.shown_scores(found.scores, found.labels)
            found = by_score(replace(found, scores=scores))
        least = self.display_threshold if threshold is None else threshold
        return found[found.scores > least]

    def shown_scores(self, scores: NDArray, labels: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores ``(n,)`` of detections of classes ``(n,)`` as users see them."""
        if self.calibrated:
            return self.calibration[self.layer].predict(scores, labels)
        return np.asarray(scores, np.float32)

    @property
    def calibrated(self) -> bool:
        """Whether a calibration turns the scores that users see into probabilities."""
        return self.layer in self.calibration

    @property
    def shows_probabilities(self) -> bool:
        """Whether users see probabilities, from a calibration or the softmax."""
        return self.calibrated or self.layer == "softmax"

    @property
    def display_threshold(self) -> float:
        """The score above which detections are worth drawing."""
        return DISPLAY_PROBABILITY if self.shows_probabilities else DISPLAY_THRESHOLD

    def finish(self, candidates: Candidates, image_size: tuple[int, ...]) -> Detections:
        """Suppress, regress and clip candidates of an image of size (height, width)."""
        settings = self.detection
        if not settings.bbox:
            candidates = replace(candidates, boxes=candidates.windows)
        limits = Suppression(
            settings.score_threshold, settings.nms_iou, settings.top_k, settings.vote_iou
        )
        return postprocess(candidates, (image_size[0], image_size[1]), self.classes, limits)

    def save(self, path: str | Path, numbers: Numbers = "float32") -> None:
        """Write the detector, whole or not at all: safetensors, with its settings as JSON inside.

        Args:
            path: the file.
            numbers: int8 makes a small file (``detector_file.py``).
        """
        parts = {each.name: getattr(self, each.name) for each in fields(self) if each.init}
        write_detector(path, *packed(**parts), numbers)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str | torch.device = "cpu",
        scales: Literal[1, 5] | None = None,
        precision: Precision | None = None,
        detection: Detection | None = None,
    ) -> "SPPDetector":
        """Read a detector written by ``save``.

        Args:
            path: a run's detector.safetensors, or the name of a detector that comes with the
                package.
            device: where the network runs.
            scales: 1 or 5 test scales; None keeps the scales of the training.
            precision: None keeps the precision of the training, or takes float32 if the device has
                no bfloat16 instructions.
            detection: None keeps the settings of the training.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is not a detector of this format, or no such number of scales.
            RuntimeError: the device cannot be used, or has too little memory.
        """
        return cls(**read_parts(path, torch.device(device), scales, precision, detection))
