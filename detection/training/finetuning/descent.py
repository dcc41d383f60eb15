"""Gradient descent, a step at a time, in one process or divided among several."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout
from torch.nn.parallel import DistributedDataParallel

from detection.ranks import ALONE, Ranks
from detection.settings.training import Finetune
from detection.training.finetuning.pyramid_network import PyramidNetwork


class Batch(NamedTuple):
    """The windows of a step.

    Attributes:
        pooled: ``(M, D)`` windows, with their graph where convolutions are trained: all B of the
            batch, or this process's.
        labels: ``(M,)`` classes, K for background.
        places: ``(M,)`` where in the batch they stand.
        size: B.
    """

    pooled: Tensor
    labels: Tensor
    places: Tensor
    size: int


class Descent:
    """Optimises a network's trained layers.

    Args:
        network: initialised; trained in place.
        settings: schedule and penalties.
        seed: of dropout.
        autocast: multiply in bfloat16.
        ranks: the processes that share every batch; except for rounding, gradients are the same as
            with one process.

    Raises:
        ValueError: more processes than images a batch, where each needs one.
    """

    def __init__(
        self,
        network: PyramidNetwork,
        settings: Finetune,
        seed: int,
        *,
        autocast: bool = False,
        ranks: Ranks = ALONE,
    ) -> None:
        if network.convolutions and ranks.count > settings.images:
            raise ValueError(
                f"{ranks.count} processes train convolutions on {settings.images} images a batch, "
                "but each process needs one; start fewer processes, or raise "
                "--finetune.conv_images"
            )
        self.network = network
        self.settings = settings
        self.seed = seed
        self.autocast = autocast
        self.ranks = ranks
        self.optimizer = make_optimizer(network, settings)
        self._learner: nn.Module = network
        if ranks.count > 1:
            network.head.dropout = DropoutOfBatch(settings.dropout)
            self._learner = DistributedDataParallel(network)

    def step(self, number: int, batch: Batch) -> float:
        """One step on this process's part of a batch; returns the loss of the whole.

        Raises:
            RuntimeError: the loss is not finite; its parts are in the message.
        """
        rate = learning_rate_at(number, self.settings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        head, device = self.network.head.train(), batch.pooled.device
        if isinstance(head.dropout, DropoutOfBatch):
            head.dropout.places, head.dropout.size = batch.places, batch.size
        # Dropout's masks depend on the step alone, so that a resumed run repeats them.
        with (
            seeded(self.seed * 1_000_003 + number, device),
            torch.autocast(device.type, torch.bfloat16, enabled=self.autocast),
        ):
            logits = self._learner(batch.pooled)
        loss = finite_loss(logits.float(), batch.labels, head.fc8.out_features - 1, number)
        # A mean over this part; the gradients of ranks are averaged, where windows' are to be.
        loss = loss * (self.ranks.count * len(batch.labels) / batch.size)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return self.ranks.total(loss.detach()).item() / self.ranks.count


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """PyTorch's global generators of the CPU and the device seeded, and put back afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def learning_rate_at(step: int, settings: Finetune) -> float:
    """The rate of a step: constant, a tenth from 2/3 of the steps on, a hundredth from 9/10 on."""
    done = step / settings.steps
    return settings.learning_rate * (1.0 if done < 2 / 3 else 0.1 if done < 0.9 else 0.01)


def make_optimizer(network: PyramidNetwork, settings: Finetune) -> torch.optim.Optimizer:
    """Gradient descent with momentum, plain or scaled by AdamW; biases do not decay."""
    fc = [layer for layer in network.head.modules() if isinstance(layer, nn.Linear)]
    groups: list[dict[str, Any]] = []
    for layers, share in ((fc, 1.0), (network.convolutions, settings.conv_rate)):
        for kind, decay in (("weight", settings.weight_decay), ("bias", 0.0)):
            parameters = [getattr(layer, kind) for layer in layers]
            if parameters:
                groups.append({"params": parameters, "weight_decay": decay, "share": share})
    rate, momentum = settings.learning_rate, settings.momentum
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=momentum, fused=True)
    return torch.optim.AdamW(groups, lr=rate, betas=(momentum, 0.999), fused=True)


def finite_loss(logits: Tensor, labels: Tensor, background: int, step: int) -> Tensor:
    """Mean cross-entropy of a batch; 0 of none.

    Raises:
        RuntimeError: it is not finite; the message has the parts of objects and background.
    """
    losses = cross_entropy(logits, labels, reduction="none")
    loss = losses.mean() if len(losses) else losses.sum()
    if not torch.isfinite(loss):
        objects = labels != background
        raise RuntimeError(
            f"fine-tuning diverged at step {step}: loss {loss.item()} "
            f"(objects {losses[objects].mean().item()}, background "
            f"{losses[~objects].mean().item()}, largest logit "
            f"{logits.abs().max().item()}); try a lower --finetune.learning_rate"
        )
    return loss


class DropoutOfBatch(nn.Module):
    """Dropout for some rows of a batch, with the same masks as for the whole batch.

    Attributes:
        places: of the rows given next.
        size: of the whole batch.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.places = torch.empty(0, dtype=torch.int64)
        self.size = 0

    def forward(self, rows: Tensor) -> Tensor:
        """The rows ``(M, D)`` with a share of their numbers dropped, in training."""
        if not self.training or not self.share:
            return rows
        whole = torch.ones(self.size, rows.shape[1], dtype=rows.dtype, device=rows.device)
        return rows * dropout(whole, self.share)[self.places.to(rows.device)]
