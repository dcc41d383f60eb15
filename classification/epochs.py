"""The epochs of a classifier's training: steps of gradient descent, tests, checkpoints."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from classification import checkpoint as checkpoints
from classification.config import Config, Training
from classification.folder import LabelledImages
from classification.keys import TrainingKeys
from classification.loading import Batch, batches_of, test_places, training_places
from classification.network import PyramidClassifier, save_classifier
from classification.run import ClassifierRun
from classification.sizes import size_of_epoch
from classification.testing import TOP, top5_tells
from detection.networks.finite import require_finite
from detection.ranks import Ranks

logger = logging.getLogger(__name__)


def learning_rate_at(epoch: int, settings: Training) -> float:
    """The learning rate of an epoch, counted from 0; each drop divides it by ten."""
    drops = sum(epoch >= share * settings.epochs for share in settings.drops)
    return settings.learning_rate * 0.1**drops


def make_optimizer(network: nn.Module, settings: Training) -> torch.optim.SGD:
    """Gradient descent with momentum, without weight decay on biases and normalisations."""
    parameters = list(network.parameters())
    groups: list[dict[str, Any]] = [
        {"params": [each for each in parameters if each.dim() > 1]},
        {"params": [each for each in parameters if each.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(
        groups,
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        fused=True,
    )


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed PyTorch's global generators of the CPU and the device; restore them afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


class Epochs:
    """Runs the epochs of a training; arguments: see ``train_classifier``."""

    def __init__(
        self,
        config: Config,
        run: ClassifierRun,
        ranks: Ranks,
        train: LabelledImages,
        val: LabelledImages,
        network: PyramidClassifier,
        keys: TrainingKeys,
    ) -> None:
        self.config, self.run, self.ranks = config, run, ranks
        self.train, self.val = train, val
        self.network, self.keys = network, keys
        self.optimizer = make_optimizer(network, config.training)
        self.shared: nn.Module = network
        if ranks.count > 1:
            self.shared = DistributedDataParallel(network)
        readers = max(1, run.workers // ranks.beside)
        self.readers = 0 if readers == 1 else readers
        self.skipped: dict[str, str] = {}
        self.tested: dict[str, float] = {}

    def run_epochs(self) -> dict[str, Any]:
        """Run all remaining epochs; returns the facts of the classifier's file."""
        config, checkpoint = self.config, self.run.folder / "training.checkpoint"
        found = checkpoints.resume(checkpoint, self.keys.key, self.network, self.optimizer)
        first = 0
        if found is not None:
            first, self.skipped, self.tested = (
                found["epochs"], found["skipped"], found["tested"]
            )  # fmt: skip
            logger.info("training resumes at epoch %d", first + 1)
        epochs = range(first, config.training.epochs)
        places = training_places(
            len(self.train.names), config, epochs, self.ranks.rank, self.ranks.count
        )
        batches = batches_of(self.train, config, places, self.readers)
        steps = len(self.train.names) // config.training.batch
        count = steps * config.training.batch
        for epoch in self._progress(epochs):
            self._epoch(epoch, batches, steps, count)
            if self.ranks.rank == 0 and epoch + 1 < config.training.epochs:
                facts = {"epochs": epoch + 1, "skipped": self.skipped, "tested": self.tested}
                checkpoints.save(checkpoint, self.keys.key, facts, self.network, self.optimizer)
        facts = self._facts()
        if self.ranks.rank == 0:
            self.run.save_settings()
            save_classifier(self.run.classifier_path, self.network, self.train.classes, facts)
            checkpoint.unlink(missing_ok=True)
        return facts

    def _progress(self, epochs: range) -> Iterator[int]:
        if self.ranks.rank == 0:
            return self.run.progress(epochs, "training", len(epochs))
        return iter(epochs)

    def _epoch(self, epoch: int, batches: Iterator[Batch], steps: int, count: int) -> None:
        """Learn from every image once, test if this epoch has a test, and report."""
        settings, start = self.config.training, time.perf_counter()
        rate = learning_rate_at(epoch, settings)
        size = size_of_epoch(settings, self.config.seed, epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        sums = torch.zeros(4, dtype=torch.float64, device=self.ranks.device)
        for step in range(epoch * steps, (epoch + 1) * steps):
            sums += self._step(next(batches), step, size)
        require_finite(self.network, f"training diverged in epoch {epoch + 1}", "training")
        event = {"epoch": epoch + 1, "size": size, "rate": rate} | self._means(sums)
        seconds = time.perf_counter() - start
        event |= {"seconds": round(seconds, 2), "images_per_second": round(count / seconds, 1)}
        if (epoch + 1) % settings.test_every == 0 or epoch + 1 == settings.epochs:
            self.tested = self.test()
            event |= {f"val_{name}": value for name, value in self.tested.items()}
        self.skipped = self.ranks.united(self.skipped)
        if self.ranks.rank == 0:
            self.run.event("epoch", **event)
            logger.info("%s", "  ".join(f"{name} {value:.4g}" for name, value in event.items()))

    def _step(self, batch: Batch, step: int, size: int) -> Tensor:
        """One step of gradient descent; returns this rank's ``scores``.

        The loss is the mean over the whole batch, of which this rank has a part.

        Raises:
            RuntimeError: the loss is not finite.
        """
        self.skipped |= batch.skipped
        if not len(batch.labels):
            # Every rank must take part in the step, here with a black image that is not counted.
            black = torch.zeros((1, size, size, 3), dtype=torch.uint8)
            batch = batch._replace(pixels=black, shifts=torch.zeros((1, 3)))
        pixels = batch.pixels.to(self.ranks.device).float()
        pixels = pixels + batch.shifts.to(self.ranks.device)[:, None, None, :]
        labels = batch.labels.to(self.ranks.device)
        # Dropout's masks depend only on seed, step and rank, so a resumed run repeats them.
        seed = (self.config.seed * 1_000_003 + step) * self.ranks.count + self.ranks.rank
        with seeded(seed, self.ranks.device):
            logits = self.shared(self.network.preprocess(pixels))[: len(labels)]
        loss = cross_entropy(logits, labels, reduction="sum")
        if not torch.isfinite(loss):
            raise RuntimeError(
                f"training diverged at step {step + 1}: loss {loss.item()}; try a lower "
                "--training.learning_rate"
            )
        self.optimizer.zero_grad(set_to_none=True)
        # Ranks average their gradients; this factor makes it the mean over the batch's images.
        (loss * (self.ranks.count / self.config.training.batch)).backward()
        self.optimizer.step()
        return scores(logits.detach(), labels, loss.detach())

    @torch.no_grad()
    def test(self) -> dict[str, float]:
        """``means`` over the centre crops of the val images, each counted once."""
        self.network.eval()
        places = test_places(
            len(self.val.names), self.config.training.batch, self.ranks.rank, self.ranks.count
        )
        sums = torch.zeros(4, dtype=torch.float64, device=self.ranks.device)
        for batch in batches_of(self.val, self.config, places, self.readers):
            self.skipped |= batch.skipped
            if len(batch.labels):
                logits = self.network(self.network.preprocess(batch.pixels))
                labels = batch.labels.to(self.ranks.device)
                loss = cross_entropy(logits, labels, reduction="sum")
                sums += scores(logits, labels, loss)
        return self._means(sums)

    def _means(self, sums: Tensor) -> dict[str, float]:
        return means(self.ranks.total(sums), len(self.train.classes))

    def _facts(self) -> dict[str, Any]:
        return {
            **self.keys._asdict(),
            "seed": self.config.seed,
            "shorter_side": self.config.data.shorter_side,
            "training": asdict(self.config.training),
            "tested": self.tested,
            "skipped": self.skipped,
        }


def scores(logits: Tensor, labels: Tensor, loss: Tensor) -> Tensor:
    """Sums over images, float64: loss, correct top-1, correct top-5, and number of images."""
    order = logits.topk(min(TOP, logits.shape[1]), dim=1).indices
    right = order == labels[:, None]
    return torch.stack(
        [loss, right[:, 0].sum(), right.sum(), labels.new_tensor(len(labels))]
    ).double()


def means(sums: Tensor, classes: int) -> dict[str, float]:
    """Mean ``loss``, ``top1`` and, if there are more than five classes, ``top5``, as shares.

    Args:
        sums: of ``scores``.
        classes: number of classes.
    """
    loss, top1, top5, count = sums.tolist()
    count = max(count, 1)
    found = {"loss": loss / count, "top1": top1 / count}
    return found | ({"top5": top5 / count} if top5_tells(classes) else {})
