"""Fine-tuning of fc6, fc7 and a (K+1)-way layer on windows, and of convolutions (paper 4.1)."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detection.networks.finite import require_finite
from detection.networks.head import Head
from detection.networks.truncated import TruncatedHead
from detection.run import Progress, silent
from detection.training.finetuning import checkpoint as checkpoints
from detection.training.finetuning.batches import View, WindowBatches
from detection.training.finetuning.descent import Batch, Descent
from detection.training.finetuning.learning_curve import LearningCurve
from detection.training.finetuning.prefetch import Prefetcher
from detection.training.finetuning.pyramid_network import PyramidNetwork
from detection.training.finetuning.shuffle_buffer import ShuffleBuffer

VERSION = 7
CURVE_EVERY = 100


def finetune_head(
    descent: Descent,
    batches: WindowBatches,
    held_back: WindowBatches | None,
    checkpoint: Path,
    key: str,
    *,
    readers: int = 1,
    report: Callable[[Mapping[str, Any]], None] = lambda event: None,
    progress: Progress = silent,
) -> Head | TruncatedHead:
    """Train a network's head and chosen convolutions; returns a head for windows as they are.

    The weights of the last step are kept: nothing is selected on images held back. Only the first
    of several processes writes.

    Args:
        descent: the optimisation of the network.
        batches: draws the views of every step; each process computes the features of its share.
        held_back: draws the views of the learning curve; None for no curve.
        checkpoint: file to resume from, written every ``checkpoint_every`` steps.
        key: key of this training; a checkpoint of another key is not resumed.
        readers: number of readers of the next steps' images; several are processes.
        report: called with the events of the curve.
        progress: wraps the steps.
    """
    network, settings, ranks = descent.network, descent.settings, descent.ranks
    first = checkpoints.resume(checkpoint, key, network, descent.optimizer)
    curve = None if held_back is None else LearningCurve(network, held_back, descent.autocast)
    losses: list[float] = []
    steps = progress(range(first, settings.steps), "fine-tuning", settings.steps - first)
    parts = batches.of_rank(ranks.rank, ranks.count)
    for step, batch in drawn(steps, network, parts, descent.autocast, readers):
        losses.append(descent.step(step, batch))
        done = step + 1
        if ranks.rank:
            continue
        if done % CURVE_EVERY == 0 or done == settings.steps:
            event = {"step": done, "train_loss": float(np.mean(losses))}
            report(event | (curve.point() if curve else {}))
            losses = []
        if done % settings.checkpoint_every == 0 and done < settings.steps:
            checkpoints.save(checkpoint, key, done, network, descent.optimizer)
    require_finite(network, "fine-tuning diverged at its last step", "finetune")
    return network.head.shift_input(network.mean).eval()


def drawn(
    steps: Iterable[int],
    network: PyramidNetwork,
    batches: WindowBatches,
    autocast: bool,
    readers: int,
) -> Iterator[tuple[int, Batch]]:
    """Steps with their batches, on the network's device; ``readers`` read images ahead.

    While convolutions are trained, a batch comes from the step's own images, because the gradient
    goes through their features. Otherwise it comes from the images of many steps.
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
                mine = np.concatenate([np.full(len(view.labels), view.mine) for view in views])
                places = torch.from_numpy(np.flatnonzero(mine))
                found = [pooled_of(view) for view in views if view.mine]
                pooled = torch.cat(found) if found else torch.empty(0, length, device=device)
                yield step, Batch(pooled, labels[places].to(device), places, len(labels))
            return
        pool = ShuffleBuffer(batches, ahead.draw, pooled_of, batches.num_classes, length)
        for step in steps:
            pooled, labels, places = pool.draw(step)
            own = labels[places].to(device)
            yield step, Batch(pooled.to(device), own, places, len(labels))
