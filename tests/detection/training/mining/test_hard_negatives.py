"""The hard-negative pass: a slow twin, its limits, and that it resumes from its state."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detection.learners.class_svms import ClassSVMs
from detection.learners.svm import HingeLoss, fit_svm
from detection.training.mining.hard_negatives import HardNegativeMiner
from detection.training.mining.refits import Refit, Refits

CLASSES = ("cat", "dog", "sheep")
DIMENSION = 12
Image = tuple[NDArray[np.float16], NDArray[np.bool_]]


def draw(seed: int, images: int = 6) -> tuple[list[NDArray[np.float16]], list[Image]]:
    """Return positives of three classes, and images of 0 to 60 windows, mostly negatives."""
    rng = np.random.default_rng(seed)

    def features(count: int) -> NDArray[np.float16]:
        drawn = np.maximum(rng.standard_normal((count, DIMENSION)), 0)
        return (drawn * 7).astype(np.float16)

    positives = [features(int(count)) for count in rng.integers(5, 20, 3)]
    for label, rows in enumerate(positives):
        rows[:, label] += 10
    sizes = [40, 0, *rng.integers(20, 60, images - 2)]
    return positives, [(features(n), rng.random((n, 3)) < 0.8) for n in sizes]


def mine(
    miner: HardNegativeMiner, positives: list[NDArray[np.float16]], images: Sequence[Image]
) -> ClassSVMs:
    miner.start(positives)
    for index, (features, negative) in enumerate(images):
        miner.add_image(index, features, negative)
    return miner.finish()


def collected() -> tuple[list[dict[str, Any]], Callable[..., None]]:
    """Return an empty list, and a callback for refits that appends its keywords to the list."""
    events: list[dict[str, Any]] = []
    return events, lambda **event: events.append(event)


class SlowMiner:
    """The released procedure with lists and bounded caches; classes share no windows."""

    def __init__(self, refit_every: int, max_negatives: int, threshold: float, evict: float):
        self.limits = refit_every, max_negatives, threshold, evict
        self.refits: list[tuple[int, int, int, int]] = []

    def run(self, positives: list[NDArray], images: Sequence[Image]) -> tuple[NDArray, NDArray]:
        refit_every, _, threshold, _ = self.limits
        self.least = [threshold for _ in positives]
        self.positives = positives
        self.w = [np.zeros(DIMENSION, np.float32) for _ in positives]
        self.b = [np.float32(0) for _ in positives]
        self.cache: list[list[NDArray]] = [[] for _ in positives]
        self.new = [0 for _ in positives]
        seen = [False for _ in positives]
        for number, (features, negative) in enumerate(images):
            due = []
            for k in range(len(positives)):
                for row, is_negative in zip(features, negative[:, k], strict=True):
                    if is_negative and (
                        not seen[k] or np.float32(row) @ self.w[k] + self.b[k] > self.least[k]
                    ):
                        self.cache[k].append(row)
                        self.new[k] += 1
                if (not seen[k] and self.cache[k]) or self.new[k] > refit_every:
                    seen[k] = True
                    due.append(k)
            for k in due:
                self.refit(number, k)
        for k in range(len(positives)):
            if self.new[k]:
                self.refit(len(images) - 1, k)
        return np.stack(self.w), np.array(self.b)

    def refit(self, number: int, k: int) -> None:
        _, max_negatives, threshold, evict = self.limits
        svm = fit_svm(self.positives[k], np.stack(self.cache[k]))
        self.w[k], self.b[k] = svm.weights.astype(np.float32), np.float32(svm.bias)
        self.refits.append((number, k, len(self.cache[k]), self.new[k]))
        pairs = [(s, i) for i, s in enumerate(svm.negative_scores) if not s < evict]
        hardest = sorted(pairs, key=lambda pair: (-pair[0], pair[1]))[:max_negatives]
        self.cache[k] = [self.cache[k][i] for i in sorted(i for _, i in hardest)]
        cut = len(hardest) < len(pairs)
        self.least[k] = max(threshold, hardest[-1][0]) if cut else threshold
        self.new[k] = 0


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("refit_every", "max_negatives", "threshold", "evict"),
    [(20, 1000, -1.0001, -1.2), (5, 25, -0.9, -0.95), (1000, 1000, -1.0001, -1.2)],
)
def test_miner_equals_slow_twin(
    seed: int, refit_every: int, max_negatives: int, threshold: float, evict: float
) -> None:
    positives, images = draw(seed)
    events, on_refit = collected()
    svms = mine(
        HardNegativeMiner(
            CLASSES,
            DIMENSION,
            threshold=threshold,
            evict_below=evict,
            refit_every=refit_every,
            max_negatives=max_negatives,
            on_refit=on_refit,
        ),
        positives,
        images,
    )
    twin = SlowMiner(refit_every, max_negatives, threshold, evict)
    weights, biases = twin.run(positives, images)
    np.testing.assert_array_equal(svms.coef_, weights)
    np.testing.assert_array_equal(svms.intercept_, biases)
    found = [(e["images"] - 1, CLASSES.index(e["class"]), e["negatives"], e["new"]) for e in events]
    assert found == twin.refits


class LateRefits(Refits):
    """Refits, two at once, that are done in random order, and only when they are waited for."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.rng = np.random.default_rng(seed)
        self.waits: list[Refit] = []

    @property
    def free(self) -> bool:
        return len(self.waits) < 2

    def begin(self, positives: NDArray, negatives: NDArray, loss: HingeLoss, seed: int) -> Refit:
        refit = Refit(partial(fit_svm, positives, negatives, loss, seed=seed), Future())
        self.waits.append(refit)
        return refit

    def wait(self) -> None:
        if self.waits:
            refit = self.waits.pop(self.rng.integers(len(self.waits)))
            refit.future.set_result(refit.fit())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("refit_every", "max_negatives"), [(20, 1000), (5, 25)])
def test_the_order_in_which_refits_are_done_changes_nothing(
    seed: int, refit_every: int, max_negatives: int
) -> None:
    """Images wait for a class that is refitted; other classes see them meanwhile."""
    positives, images = draw(seed, images=12)
    found, stopped = [], 5
    for refits in (None, LateRefits(seed), LateRefits(seed + 1)):
        events, on_refit = collected()
        miner = HardNegativeMiner(
            CLASSES,
            DIMENSION,
            refit_every=refit_every,
            max_negatives=max_negatives,
            on_refit=on_refit,
            refits=refits,
        )
        miner.start(positives)
        for index, (features, negative) in enumerate(images):
            miner.add_image(index, features, negative)
            if index == stopped:
                state = {name: rows.tobytes() for name, rows in miner.state().items()}
        svms = miner.finish()
        for event in events:
            del event["seconds"]
        found.append((svms.coef_.tobytes(), svms.intercept_.tobytes(), state, events))
    assert len(found[0][3]) > 3
    assert found[0] == found[1] == found[2]


def test_the_pass_refits_and_evicts() -> None:
    """The settings of the test above reach every rule: refits, evictions and the bound."""
    events, on_refit = collected()
    miner = HardNegativeMiner(
        CLASSES,
        DIMENSION,
        threshold=-0.9,
        evict_below=-0.95,
        refit_every=5,
        max_negatives=25,
        on_refit=on_refit,
    )
    mine(miner, *draw(0))
    assert len(events) > 6
    assert sum(event["evicted"] for event in events) > 0
    assert sum(event["over_bound"] for event in events) > 0
    held = [rows for name, rows in miner.state().items() if name.startswith("members.")]
    members = np.concatenate(held)
    assert (members.sum(axis=0) <= 25).all()
    assert members.any(axis=1).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_killed_run_ends_with_the_same_bytes(seed: int) -> None:
    positives, images = draw(seed)

    def new_miner() -> HardNegativeMiner:
        return HardNegativeMiner(CLASSES, DIMENSION, refit_every=15, max_negatives=40)

    straight = mine(new_miner(), positives, images)
    miner = new_miner().start(positives)
    for stop in range(len(images) + 1):
        state = miner.state()
        before = {name: array.copy() for name, array in state.items()}
        other = new_miner().start(positives).load_state(state)
        assert other.state()["visited"].tolist() == list(range(stop))
        for index in range(stop, len(images)):
            other.add_image(index, *images[index])
        resumed = other.finish()
        assert resumed.coef_.tobytes() == straight.coef_.tobytes()
        assert resumed.intercept_.tobytes() == straight.intercept_.tobytes()
        for name, array in before.items():
            np.testing.assert_array_equal(state[name], array)
        if stop < len(images):
            miner.add_image(stop, *images[stop])
            # The miner itself continues as a new one that loads its state.
            miner = new_miner().start(positives).load_state(miner.state())


def test_a_full_cache_takes_only_what_is_harder_than_its_easiest() -> None:
    """If it took every hard window, weak features would mean a refit after nearly every image."""
    rng = np.random.default_rng(0)
    images = [(rng.random((30, 2)).astype(np.float16), np.ones((30, 1), bool)) for _ in range(20)]
    events, on_refit = collected()
    miner = HardNegativeMiner(("cat",), 2, refit_every=20, max_negatives=30, on_refit=on_refit)
    mine(miner, [rng.random((4, 2)).astype(np.float16)], images)
    assert events[0]["negatives"] == 30  # the first image fills the cache
    assert all(event["over_bound"] > 0 for event in events[1:])
    assert len(events) < 10, "a refit after nearly every image"


def test_a_model_is_a_snapshot() -> None:
    positives, images = draw(0)
    miner = HardNegativeMiner(CLASSES, DIMENSION, refit_every=5).start(positives)
    before = miner.model()
    assert (before.thresholds == -np.inf).all()
    assert before.hard(images[0][0]).all()
    miner.add_image(0, *images[0])
    first = miner.model()
    assert (first.thresholds == np.float32(-1.0001)).all()
    assert (before.thresholds == -np.inf).all()
    assert not before.weights.any()
    kept = first.weights.copy(), first.bias.copy()
    for number, image in enumerate(images[1:], start=1):
        miner.add_image(number, *image)
    svms = miner.finish()
    np.testing.assert_array_equal(first.weights, kept[0])
    np.testing.assert_array_equal(first.bias, kept[1])
    assert (svms.coef_ != first.weights).any()
    np.testing.assert_array_equal(miner.model().weights, svms.coef_)


def test_what_an_older_model_finds_easy_may_be_left_out() -> None:
    """Easy windows of an image change nothing, so a worker process need not send them."""
    positives, images = draw(1)
    every = HardNegativeMiner(CLASSES, DIMENSION, refit_every=15).start(positives)
    some = HardNegativeMiner(CLASSES, DIMENSION, refit_every=15).start(positives)
    left_out = 0
    for number, (features, negative) in enumerate(images):
        hard = negative & some.model().hard(features)
        rows = hard.any(axis=1)
        left_out += (~rows).sum()
        every.add_image(number, features, negative)
        some.add_image(number, features[rows], hard[rows])
    assert left_out > 0
    one, other = every.finish(), some.finish()
    assert one.coef_.tobytes() == other.coef_.tobytes()
    assert one.intercept_.tobytes() == other.intercept_.tobytes()


def test_refits_are_logged_with_the_parts_of_the_objective(
    caplog: pytest.LogCaptureFixture,
) -> None:
    events, on_refit = collected()
    with caplog.at_level(logging.DEBUG):
        mine(HardNegativeMiner(CLASSES, DIMENSION, on_refit=on_refit), *draw(0))
    assert "SVM cat after 1 images" in caplog.text
    assert "regularisation" in caplog.text
    for event in events:
        parts = event["positive_loss"], event["negative_loss"], event["regularisation"]
        assert event["objective"] == pytest.approx(sum(parts))
        assert event["support_vectors"] <= event["positives"] + event["negatives"]


def test_classes_without_samples_are_refused() -> None:
    positives, images = draw(0)
    miner = HardNegativeMiner(CLASSES, DIMENSION)
    with pytest.raises(ValueError, match="class 'dog' has no positive windows"):
        miner.start([positives[0], positives[1][:0], positives[2]])
    miner.start(positives)
    features, negative = images[0]
    miner.add_image(0, features, negative & np.array([True, True, False]))
    with pytest.raises(ValueError, match="class 'sheep' found no negative window in 1 images"):
        miner.finish()


def test_bad_input_is_refused() -> None:
    positives, images = draw(0)
    features, negative = images[0]
    miner = HardNegativeMiner(CLASSES, DIMENSION)
    with pytest.raises(ValueError, match="expected positives of 3 classes, got 2"):
        miner.start(positives[:2])
    with pytest.raises(ValueError, match=r"'cat' must have shape \(n, 12\), got"):
        miner.start([rows[:, :5] for rows in positives])
    miner.start(positives)
    with pytest.raises(ValueError, match=r"image 4: expected features \(U, 12\)"):
        miner.add_image(4, features, negative[:, :2])
    with pytest.raises(ValueError, match="image 4: features are not finite"):
        miner.add_image(4, np.full_like(features, np.nan), negative)
    miner.add_image(4, features, negative)
    with pytest.raises(ValueError, match="image 4 was already mined"):
        miner.add_image(4, features, negative)
    other = HardNegativeMiner(CLASSES, DIMENSION, HingeLoss(C=1.0)).start(positives)
    with pytest.raises(ValueError, match="different classes, settings or positives"):
        other.load_state(miner.state())
