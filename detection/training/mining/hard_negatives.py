"""Hard negatives for the SVMs: one pass over the images (released spp_train, after R-CNN).

From each image, a class takes the negative windows that score above -1.0001. Once it has more than
2,000 new ones, its SVM is refitted on all its negatives; then negatives that score below -1.2 are
dropped. A class without a model takes all negatives of the image and is fitted at once, as the
released code does on its first image.

The released code holds any number of negatives. Here a class keeps its ``max_negatives`` hardest
ones, and once it had to drop others, it takes only windows that score above the lowest kept one.
Otherwise a class whose SVM finds most windows hard would be refitted after every image.

Each image is visited once, so no window is held twice.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from detection.learners.class_svms import ClassSVMs
from detection.learners.svm import RELEASED, HingeLoss, LinearSVM, fit_svm
from detection.training.mining.models import Model
from detection.training.mining.negative_cache import NegativeCache

# Part of an artefact's key: raise it when the same inputs would give other SVMs.
VERSION = 5

logger = logging.getLogger(__name__)


class HardNegativeMiner:
    """Trains K SVMs image by image; memory does not grow with the number of images.

    Call ``start`` with the positives, ``add_image`` once per image, then ``finish``. With ``state``
    and ``load_state``, a killed run can be resumed between images and gives the same bytes. All
    fits are deterministic.

    Args:
        classes: names of the K classes.
        dimension: length D of the features.
        loss: loss that every SVM minimises.
        threshold: a negative is hard if it scores above this (strict), and above the lowest score
            kept where ``max_negatives`` made the class drop others.
        evict_below: after a refit, negatives that score below this are dropped (strict).
        refit_every: a class with more new negatives than this is refitted (strict).
        max_negatives: most negatives of a class after a refit: the highest scores, on ties the
            earlier ones. With 2,000 new ones, 20 classes of 4,096 numbers take less than 1.5 GB of
            float16, even if classes share no windows.
        seed: seed of the solver.
        on_refit: called after each refit with the logged figures, as keywords.
    """

    def __init__(
        self,
        classes: Sequence[str],
        dimension: int,
        loss: HingeLoss = RELEASED,
        *,
        threshold: float = -1.0001,
        evict_below: float = -1.2,
        refit_every: int = 2000,
        max_negatives: int = 7000,
        seed: int = 0,
        on_refit: Callable[..., None] | None = None,
    ) -> None:
        self.classes = tuple(classes)
        self.dimension = dimension
        self.threshold = threshold
        self.evict_below = evict_below
        self.refit_every = refit_every
        self.max_negatives = max_negatives
        self.loss = loss
        self.seed = seed
        self.on_refit = on_refit

    def start(self, positives: Sequence[NDArray]) -> "HardNegativeMiner":
        """Begin with each class's ground-truth features, K arrays ``(n_k, D)``, n_k > 0.

        Raises:
            ValueError: a class has no positives, or features of another shape.
        """
        if len(positives) != len(self.classes):
            raise ValueError(
                f"expected positives of {len(self.classes)} classes, got {len(positives)}"
            )
        for name, features in zip(self.classes, positives, strict=True):
            if features.ndim != 2 or features.shape[1] != self.dimension:
                raise ValueError(
                    f"positives of class '{name}' must have shape (n, {self.dimension}), "
                    f"got {features.shape}"
                )
            if not len(features):
                raise ValueError(
                    f"class '{name}' has no positive windows, so no SVM can be trained for it; "
                    f"leave it out of the classes or add images that show it"
                )
        count = len(self.classes)
        self._positives = list(positives)
        self._cache = NegativeCache(self.dimension)
        self._coef = np.zeros((count, self.dimension), np.float32)
        self._intercept = np.zeros(count, np.float32)
        self._thresholds = np.full(count, -np.inf, np.float32)
        self._new = np.zeros(count, np.int64)
        self._visited: set[int] = set()
        self._settings = self._digest()
        return self

    def add_image(
        self, image_index: int, features: NDArray[np.float16], negative: NDArray[np.bool_]
    ) -> None:
        """Take an image's hard negatives, and refit the classes that have enough new ones.

        Args:
            image_index: number of the image; each may be given once.
            features: ``(U, D)`` float16 at mean norm 20, without repeated rows.
            negative: ``(U, K)`` bool, whether the row is a negative of the class.

        Raises:
            ValueError: the image was already given, shapes differ, or a feature is not finite.
        """
        if image_index in self._visited:
            raise ValueError(f"image {image_index} was already mined; give each image once")
        expected = (len(features), len(self.classes))
        if features.shape[1:] != (self.dimension,) or negative.shape != expected:
            raise ValueError(
                f"image {image_index}: expected features (U, {self.dimension}) and negatives "
                f"(U, {len(self.classes)}), got {features.shape} and {negative.shape}"
            )
        try:
            taken = negative & self.model().hard(features)
        except ValueError as error:
            raise ValueError(f"image {image_index}: {error}") from error
        self._visited.add(image_index)
        self._cache.add(features, taken)
        self._new += taken.sum(axis=0)
        enough = np.where(np.isfinite(self._thresholds), self.refit_every, 0)
        self._refit(np.flatnonzero(self._new > enough).tolist())

    def model(self) -> Model:
        """A copy of the current SVMs; later refits do not change it."""
        return Model(self._coef.copy(), self._intercept.copy(), self._thresholds.copy())

    def finish(self) -> ClassSVMs:
        """Refit every class that has new negatives; returns the SVMs.

        Raises:
            ValueError: a class found no negative in any image.
        """
        self._refit(np.flatnonzero(self._new > 0).tolist())
        if not np.isfinite(self._thresholds).all():
            name = self.classes[int(self._thresholds.argmin())]
            raise ValueError(
                f"class '{name}' found no negative window in {len(self._visited)} images, "
                f"so no SVM can be trained for it; add images with more windows"
            )
        return ClassSVMs.from_arrays(self._coef, self._intercept)

    def _refit(self, labels: list[int]) -> None:
        """Fit classes on all their negatives, then drop the easy ones."""
        for label in labels:
            svm = fit_svm(
                self._positives[label],
                self._cache.gather(label),
                self.loss,
                seed=self.seed,
            )
            self._coef[label] = svm.weights
            self._intercept[label] = svm.bias
            kept, self._thresholds[label] = self._kept(svm.negative_scores)
            self._cache.keep(label, kept)
            self._report(label, svm, kept)
            self._new[label] = 0
        if labels:
            self._cache.compact()

    def _kept(self, scores: NDArray[np.float64]) -> tuple[NDArray[np.bool_], float]:
        """Which negatives are kept, and the score above which further ones are hard."""
        kept = scores >= self.evict_below
        if kept.sum() <= self.max_negatives:
            return kept, self.threshold
        kept[np.argsort(-scores, kind="stable")[self.max_negatives :]] = False
        return kept, max(self.threshold, scores[kept].min())

    def _report(self, label: int, svm: LinearSVM, kept: NDArray[np.bool_]) -> None:
        easy = int((svm.negative_scores < self.evict_below).sum())
        event = {
            "class": self.classes[label],
            "images": len(self._visited),
            "positives": len(self._positives[label]),
            "negatives": len(kept),
            "new": int(self._new[label]),
            "evicted": easy,
            "over_bound": int((~kept).sum()) - easy,
            "objective": svm.objective.total,
            "positive_loss": svm.objective.positive_loss,
            "negative_loss": svm.objective.negative_loss,
            "regularisation": svm.objective.regularisation,
            "support_vectors": svm.support_vectors,
            "seconds": svm.seconds,
        }
        logger.debug(
            "SVM %(class)s after %(images)d images: %(positives)d positives, %(negatives)d "
            "negatives (%(new)d new, %(evicted)d evicted, %(over_bound)d over the bound), "
            "objective %(objective).6g = %(positive_loss).6g positives + %(negative_loss).6g "
            "negatives + %(regularisation).6g regularisation, %(support_vectors)d support vectors, "
            "%(seconds).1f s",
            event,
        )
        if self.on_refit:
            self.on_refit(**event)

    def state(self) -> dict[str, NDArray]:
        """Everything mined so far, without the positives, for ``load_state``.

        It is a copy: later mining does not change it.
        """
        return {
            **self._cache.state(),
            "coef": self._coef.copy(),
            "intercept": self._intercept.copy(),
            "thresholds": self._thresholds.copy(),
            "new": self._new.copy(),
            "visited": np.array(sorted(self._visited), dtype=np.int64),
            "settings": self._settings,
        }

    def load_state(self, state: dict[str, NDArray]) -> "HardNegativeMiner":
        """Resume from a state, after ``start`` with the same settings and positives.

        Raises:
            ValueError: the state was made with other settings or positives.
        """
        if not np.array_equal(state["settings"], self._settings):
            raise ValueError(
                "this state of the hard-negative miner was made with different classes, settings "
                "or positives; delete it and mine again"
            )
        self._cache = NegativeCache(self.dimension)
        self._cache.load(state)
        self._coef = state["coef"].copy()
        self._intercept = state["intercept"].copy()
        self._thresholds = state["thresholds"].copy()
        self._new = state["new"].copy()
        self._visited = set(state["visited"].tolist())
        return self

    def _digest(self) -> NDArray[np.uint8]:
        """SHA-256, 32 bytes, of everything a state depends on: settings and positives."""
        settings = [self.classes, self.dimension, self.threshold, self.evict_below]
        settings += [self.refit_every, self.max_negatives, self.loss.C, self.loss.bias]
        settings += [self.loss.positive_weight, self.seed]
        digest = hashlib.sha256(json.dumps(settings).encode())
        for features in self._positives:
            digest.update(repr(features.shape).encode() + features.tobytes())
        return np.frombuffer(digest.digest(), np.uint8)
