"""The log of refits of SVMs."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from detection.learners.svm import LinearSVM

logger = logging.getLogger(__name__)


class RefitLog:
    """Logs refits in the order of images, then of classes, whichever is done first.

    Args:
        classes: names of the classes.
        on_refit: called with the logged figures of each refit, as keywords.
    """

    def __init__(self, classes: Sequence[str], on_refit: Callable[..., None] | None) -> None:
        self.classes = classes
        self.on_refit = on_refit
        self._events: list[tuple[int, int, dict[str, Any]]] = []

    def add(
        self,
        label: int,
        svm: LinearSVM,
        *,
        images: int,
        positives: int,
        negatives: int,
        new: int,
        evicted: int,
        over_bound: int,
    ) -> None:
        """Keep a refit for the next report.

        Args:
            label: number of the class.
            svm: the result.
            images: number of images that the class has seen.
            positives: number of positives.
            negatives: number of negatives.
            new: number of these that no refit had before.
            evicted: number of negatives that were dropped because they are easy.
            over_bound: number of further ones that were dropped because they are too many.
        """
        event = {
            "class": self.classes[label],
            "images": images,
            "positives": positives,
            "negatives": negatives,
            "new": new,
            "evicted": evicted,
            "over_bound": over_bound,
            "objective": svm.objective.total,
            "positive_loss": svm.objective.positive_loss,
            "negative_loss": svm.objective.negative_loss,
            "regularisation": svm.objective.regularisation,
            "support_vectors": svm.support_vectors,
            "seconds": svm.seconds,
        }
        self._events.append((images, label, event))

    def report(self) -> int:
        """Log the refits that were added since the last call; returns their number."""
        for _, _, event in sorted(self._events, key=lambda each: each[:2]):
            logger.debug(
                "SVM %(class)s after %(images)d images: %(positives)d positives, %(negatives)d "
                "negatives (%(new)d new, %(evicted)d evicted, %(over_bound)d over the bound), "
                "objective %(objective).6g = %(positive_loss).6g positives + %(negative_loss).6g "
                "negatives + %(regularisation).6g regularisation, %(support_vectors)d support "
                "vectors, %(seconds).1f s",
                event,
            )
            if self.on_refit:
                self.on_refit(**event)
        count = len(self._events)
        self._events.clear()
        return count
