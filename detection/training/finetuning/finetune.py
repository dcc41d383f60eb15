"""Fine-tuning of fc6, fc7 and a (K+1)-way layer on windows, and of convolutions (paper 4.1)."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from detection.networks.head import Head
from detection.ranks import ALONE, Ranks
from detection.run import Progress, silent
from detection.settings.training import Finetune
from detection.training.finetuning import checkpoint as checkpoints
from detection.training.finetuning.batches import View, WindowBatches
from detection.training.finetuning.box_layer import box_loss, box_targets
from detection.training.finetuning.prefetch import Prefetcher
from detection.training.finetuning.pyramid_network import PyramidNetwork
from detection.training.finetuning.shuffle_buffer import ShuffleBuffer
from detection.training.finetuning.step import Batch, DropoutOfBatch, Step

VERSION = 6
CURVE_EVERY = 100
CURVE_BATCHES = 16


def learning_rate_at(step: int, settings: Finetune) -> float:
    """The rate of a step: constant, a tenth from 2/3 of the steps on, a hundredth from 9/10 on."""
    done = step / settings.steps
    return settings.learning_rate * (1.0 if done < 2 / 3 else 0.1 if done < 0.9 else 0.01)


def finetune_head(
    network: PyramidNetwork,
    batches: WindowBatches,
    held_back: WindowBatches | None,
    settings: Finetune,
    *,
    checkpoint: Path,
    key: str,
    autocast: bool = False,
    readers: int = 1,
    ranks: Ranks = ALONE,
    report: Callable[[Mapping[str, Any]], None] = lambda event: None,
    progress: Progress = silent,
) -> Head:
    """Train the head, and the network's chosen convolutions, by gradient descent on windows.

    The last step's weights are kept: nothing is selected on the held-back images, which only
    draw the learning curve. The head that comes back takes pooled windows as they are.

    Args:
        network: initialised; trained in place.
        batches: draws the views of every step.
        held_back: draws those of the curve; None for no curve.
        settings: schedule and penalties.
        checkpoint: file to resume from and to write every ``checkpoint_every`` steps.
        key: what determines this training; a checkpoint of another key is not resumed.
        autocast: multiply in bfloat16.
        readers: of the images of the next steps; several are processes.
        ranks: the processes that share every batch; each computes the features of its own images,
            and the gradients are those of one process but for rounding. The first one writes.
        report: called with the events of the curve.
        progress: wraps the steps.

    Raises:
        RuntimeError: the loss is not finite; its parts are in the message.
        ValueError: more processes than images a batch, where each needs one.
    """
    if network.convolutions and ranks.count > settings.images:
        raise ValueError(
            f"{ranks.count} processes train convolutions on {settings.images} images a batch, of "
            "which each needs one; start fewer, or raise --finetune.conv_images"
        )
    optimizer = make_optimizer(network, settings)
    first = checkpoints.resume(checkpoint, key, network, optimizer)
    learner: nn.Module = Step(network)
    if ranks.count > 1:
        network.head.dropout = DropoutOfBatch(settings.dropout)
        learner = DistributedDataParallel(learner)
    losses: list[float] = []
    steps = progress(range(first, settings.steps), "fine-tuning", settings.steps - first)
    parts = batches.of_rank(ranks.rank, ranks.count)
    for step, batch in drawn(steps, network, parts, autocast, readers):
        rate = learning_rate_at(step, settings)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]
        # Dropout's masks depend on the step alone, so that a resumed run repeats them.
        with seeded(batches.seed * 1_000_003 + step, batch.pooled.device):
            loss = train_step(
                network, learner, optimizer, batch, settings.box_loss, step, autocast, ranks
            )
        losses.append(loss)
        done = step + 1
        if ranks.rank:
            continue
        if done % CURVE_EVERY == 0 or done == settings.steps:
            event = {"step": done, "train_loss": float(np.mean(losses))}
            report(event | curve_point(network, held_back, autocast))
            losses = []
        if done % settings.checkpoint_every == 0 and done < settings.steps:
            checkpoints.save(checkpoint, key, done, network, optimizer)
    return network.head.shift_input(network.mean).eval()


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """PyTorch's global generators of the CPU and the device seeded, and put back afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def drawn(
    steps: Iterable[int],
    network: PyramidNetwork,
    batches: WindowBatches,
    autocast: bool,
    readers: int,
) -> Iterator[tuple[int, Batch]]:
    """Steps with their batches, on the network's device; ``readers`` read images ahead.

    While convolutions are trained a batch is of the step's own images, through whose features
    the gradient goes; otherwise of many steps' images.
    """
    device, length = network.head.fc8.weight.device, network.extractor.length

    def pooled_of(view: View) -> Tensor:
        """A view's features, in the training's precision."""
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            return network.pooled(view)

    with Prefetcher(batches, readers) as ahead:
        if network.convolutions:
            for step in steps:
                views = ahead.draw(step)
                labels = torch.from_numpy(np.concatenate([view.labels for view in views]))
                targets = None if network.boxes is None else box_targets(views).to(device)
                mine = np.concatenate([np.full(len(view.labels), view.mine) for view in views])
                places = torch.from_numpy(np.flatnonzero(mine))
                found = [pooled_of(view) for view in views if view.mine]
                pooled = torch.cat(found) if found else torch.empty(0, length, device=device)
                if targets is not None:
                    targets = targets[places]
                whole = len(labels)
                yield step, Batch(pooled, labels[places].to(device), places, whole, targets)
            return
        pool = ShuffleBuffer(batches, ahead.draw, pooled_of, batches.num_classes, length)
        for step in steps:
            pooled, labels, places = pool.draw(step)
            own = labels[places].to(device)
            yield step, Batch(pooled.to(device), own, places, len(labels))


def train_step(
    network: PyramidNetwork,
    learner: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    box_weight: float,
    step: int,
    autocast: bool,
    ranks: Ranks = ALONE,
) -> float:
    """One step of descent on a batch; returns its classification loss.

    Args:
        network: trained in place.
        learner: its ``Step``, as it is or distributed.
        optimizer: of the network.
        batch: this process's part of it.
        box_weight: of the loss on boxes.
        step: number.
        autocast: multiply in bfloat16.
        ranks: the processes that have the other parts.

    Raises:
        RuntimeError: the loss is not finite.
    """
    network.head.train()
    if isinstance(network.head.dropout, DropoutOfBatch):
        network.head.dropout.places, network.head.dropout.size = batch.places, batch.size
    with torch.autocast(batch.pooled.device.type, torch.bfloat16, enabled=autocast):
        logits, moves = learner(batch.pooled)
    loss = finite_loss(logits.float(), batch.labels, network.head.fc8.out_features - 1, step)
    total = loss
    if moves is not None and batch.targets is not None:
        total = loss + box_weight * box_loss(moves, batch.targets, batch.labels)
    # Means over this part; the gradients of ranks are averaged, where those of windows are to be.
    weight = ranks.count * len(batch.labels) / batch.size
    optimizer.zero_grad(set_to_none=True)
    (total * weight).backward()
    optimizer.step()
    return ranks.total(loss.detach() * weight).item() / ranks.count


def logits_of(
    network: PyramidNetwork, views: Sequence[View], autocast: bool
) -> tuple[Tensor, Tensor]:
    """Logits ``(B, K + 1)`` float32 and labels ``(B,)`` of all windows of some views."""
    device = network.head.fc8.weight.device
    with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
        logits = network(views)
    labels = np.concatenate([view.labels for view in views])
    return logits.float(), torch.from_numpy(labels).to(device)


def make_optimizer(network: PyramidNetwork, settings: Finetune) -> torch.optim.Optimizer:
    """Gradient descent with momentum, plain or scaled by AdamW; biases do not decay."""
    fc: list[torch.nn.Module] = [network.head.fc6, network.head.fc7, network.head.fc8]
    if network.boxes is not None:
        fc.append(network.boxes)
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


@torch.no_grad()
def curve_point(
    network: PyramidNetwork, held_back: WindowBatches | None, autocast: bool
) -> dict[str, float]:
    """Loss, error and error on objects of the same held-back batches each time."""
    if held_back is None:
        return {}
    network.head.eval()
    found = [
        logits_of(network, held_back.draw(step), autocast)
        for step in range(min(CURVE_BATCHES, len(held_back.records)))
    ]
    logits, labels = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
    miss = logits.argmax(dim=1) != labels
    objects = labels < logits.shape[1] - 1
    return {
        "held_back_loss": cross_entropy(logits, labels).item(),
        "held_back_error": miss.float().mean().item(),
        "held_back_object_error": miss[objects].float().mean().item(),
    }
