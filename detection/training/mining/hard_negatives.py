"""Hard negatives for the SVMs: one pass over the images (released spp_train, after R-CNN).

From each image, a class takes the negative windows that score above -1.0001. Once it has more than
2,000 new ones, its SVM is refitted on all its negatives; then negatives that score below -1.2 are
dropped. A class without a model takes all negatives of the image and is fitted at once, as the
released code does on its first image.

The released code holds any number of negatives. Here a class keeps its ``max_negatives`` hardest
ones, and once it had to drop others, it takes only windows that score above the lowest kept one.
Otherwise a class whose SVM finds most windows hard would be refitted after every image.

Each image is visited once, so no window is held twice.

No class depends on another, so classes are refitted at the same time. While a class is refitted,
images wait for it; each class sees all images in their order.
"""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.learners.class_svms import ClassSVMs
from detection.learners.svm import RELEASED, HingeLoss, LinearSVM
from detection.training.mining.models import Model
from detection.training.mining.negative_cache import Block, NegativeCache
from detection.training.mining.refit_log import RefitLog
from detection.training.mining.refits import Refit, Refits

# Part of an artefact's key: raise it when the same inputs would give other SVMs.
VERSION = 6


@dataclass(frozen=True)
class _Image:
    """An image that waits for classes.

    Attributes:
        number: how many images were given, with this one.
        features: ``(U, D)``.
        negative: ``(U, K)``, as given.
        scores: ``(U, K)`` by the SVMs at its arrival.
        refits: ``(K,)`` refits of each class until then.
        block: in the cache, the rows that are a negative of some class.
    """

    number: int
    features: NDArray[np.float16]
    negative: NDArray[np.bool_]
    scores: NDArray[np.float32]
    refits: NDArray[np.int64]
    block: Block


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
        on_refit: called after each refit with the logged figures, as keywords; the order is that
            of images, then of classes.
        refits: where SVMs are fitted; this process unless it says otherwise.
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
        refits: Refits | None = None,
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
        self.refits = refits or Refits()

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
        self._cache = NegativeCache(count, self.dimension)
        self._coef = np.zeros((count, self.dimension), np.float32)
        self._intercept = np.zeros(count, np.float32)
        self._thresholds = np.full(count, -np.inf, np.float32)
        self._new = np.zeros(count, np.int64)
        self._refits = np.zeros(count, np.int64)
        self._seen = np.zeros(count, np.int64)
        self._visited: set[int] = set()
        self._waiting: list[deque[_Image]] = [deque() for _ in range(count)]
        self._begun: dict[int, Refit] = {}
        self._log = RefitLog(self.classes, self.on_refit)
        self._settings = self._digest()
        return self

    def add_image(
        self, image_index: int, features: NDArray[np.float16], negative: NDArray[np.bool_]
    ) -> None:
        """Take an image's hard negatives; classes that have enough new ones are refitted.

        Args:
            image_index: number of the image; each may be given once.
            features: ``(U, D)`` float16 at mean norm 20, without repeated rows.
            negative: ``(U, K)`` bool, whether the row is a negative of the class.

        Raises:
            ValueError: the image was already given, shapes differ, or a feature is not finite.
            RuntimeError: a refit did not converge.
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
            scores = self._model().scores(features)
        except ValueError as error:
            raise ValueError(f"image {image_index}: {error}") from error
        self._visited.add(image_index)
        block = self._cache.add(features[negative.any(axis=1)])
        number = len(self._visited)
        image = _Image(number, features, negative, scores, self._refits.copy(), block)
        for waiting in self._waiting:
            waiting.append(image)
        self._advance()

    def model(self) -> Model:
        """A copy of the SVMs after all images so far; later refits do not change it."""
        self._settle()
        return Model(self._coef.copy(), self._intercept.copy(), self._thresholds.copy())

    def finish(self) -> ClassSVMs:
        """Refit every class that has new negatives; returns the SVMs.

        Raises:
            ValueError: a class found no negative in any image.
            RuntimeError: a refit did not converge.
        """
        self._settle()
        self._settle(least=0)
        if not np.isfinite(self._thresholds).all():
            name = self.classes[int(self._thresholds.argmin())]
            raise ValueError(
                f"class '{name}' found no negative window in {len(self._visited)} images, "
                f"so no SVM can be trained for it; add images with more windows"
            )
        return ClassSVMs.from_arrays(self._coef, self._intercept)

    def _settle(self, least: int | None = None) -> None:
        """Wait until all classes have seen all images and are refitted."""
        self._advance(least)
        while self._unsettled(least):
            self.refits.wait()
            self._advance(least)

    def _unsettled(self, least: int | None) -> bool:
        return bool(self._begun or any(self._waiting) or self._due(least).any())

    def _due(self, least: int | None) -> NDArray[np.bool_]:
        """Which classes ``(K,)`` have more than ``least`` new negatives, else ``refit_every``."""
        enough = self.refit_every if least is None else least
        return self._new > np.where(np.isfinite(self._thresholds), enough, 0)

    def _advance(self, least: int | None = None) -> None:
        """Show each class the images that wait for it, as far as its refits allow."""
        for label, waiting in enumerate(self._waiting):
            while True:
                if label in self._begun:
                    if not self._begun[label].done():
                        break
                    self._refitted(label, self._begun.pop(label).result())
                if self._due(least)[label]:
                    if not self.refits.free:
                        break
                    self._begin(label)
                elif waiting:
                    self._take(label, waiting.popleft())
                else:
                    break
        if not self._unsettled(least):
            self._cache.compact(dropped=self._log.report() > 0)

    def _take(self, label: int, image: _Image) -> None:
        """Give a class its hard negatives of an image."""
        scores = image.scores
        if self._refits[label] > image.refits[label]:
            # Of all classes, because one alone may differ in the last bit.
            scores = self._model().scores(image.features)
        taken = image.negative[:, label] & (scores[:, label] > self._thresholds[label])
        image.block.members[:, label] = taken[image.negative.any(axis=1)]
        self._new[label] += taken.sum()
        self._seen[label] = image.number

    def _begin(self, label: int) -> None:
        """Begin to fit a class on all its negatives."""
        negatives = self._cache.gather(label)
        self._begun[label] = self.refits.begin(
            self._positives[label], negatives, self.loss, self.seed
        )

    def _refitted(self, label: int, svm: LinearSVM) -> None:
        """Take a class's new SVM, then drop its easy negatives."""
        self._coef[label] = svm.weights
        self._intercept[label] = svm.bias
        kept, self._thresholds[label] = self._kept(svm.negative_scores)
        self._cache.keep(label, kept)
        easy = int((svm.negative_scores < self.evict_below).sum())
        self._log.add(
            label,
            svm,
            images=int(self._seen[label]),
            positives=len(self._positives[label]),
            negatives=len(kept),
            new=int(self._new[label]),
            evicted=easy,
            over_bound=int((~kept).sum()) - easy,
        )
        self._refits[label] += 1
        self._new[label] = 0

    def _model(self) -> Model:
        return Model(self._coef, self._intercept, self._thresholds)

    def _kept(self, scores: NDArray[np.float64]) -> tuple[NDArray[np.bool_], float]:
        """Which negatives are kept, and the score above which further ones are hard."""
        kept = scores >= self.evict_below
        if kept.sum() <= self.max_negatives:
            return kept, self.threshold
        kept[np.argsort(-scores, kind="stable")[self.max_negatives :]] = False
        return kept, max(self.threshold, scores[kept].min())

    def state(self) -> dict[str, NDArray]:
        """Everything mined so far, without the positives, for ``load_state``.

        It is a copy: later mining does not change it.
        """
        self._settle()
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
        self._cache = NegativeCache(len(self.classes), self.dimension)
        self._cache.load(state)
        self._coef = state["coef"].copy()
        self._intercept = state["intercept"].copy()
        self._thresholds = state["thresholds"].copy()
        self._new = state["new"].copy()
        self._visited = set(state["visited"].tolist())
        self._seen[:] = len(self._visited)
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
