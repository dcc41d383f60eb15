"""Fine-tuning of fc6, fc7 and a (K+1)-way layer on pooled windows (paper 4.1)."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor
from torch.nn.functional import cross_entropy

from detection.config import Finetune
from detection.networks.head import Head
from detection.run import Progress, silent
from detection.training.window_bank import BankEntry, StackedRows
from proposals.disk import write_atomic

VERSION = 1
CURVE_EVERY = 250
CURVE_BATCHES = 16

logger = logging.getLogger(__name__)


class BatchSampler:
    """Draws training batches from the bank's fine-tuning rows.

    Args:
        entries: pictures' rows.
        background: K, the label of background rows.
        batch: rows a batch.
        positive_share: share of them that are objects, rounded.
        seed: batch ``step`` is a function of seed and step alone, so a resumed run draws what an
            undisturbed one draws.

    Raises:
        ValueError: when there is no positive or no background row to draw from.
    """

    def __init__(
        self,
        entries: Sequence[BankEntry],
        background: int,
        *,
        batch: int,
        positive_share: float,
        seed: int,
    ) -> None:
        self.seed = seed
        self.positives = max(1, round(batch * positive_share))
        self.negatives = batch - self.positives
        self.labels = np.concatenate([entry.labels for entry in entries])
        self.rows = StackedRows([entry.finetune_rows for entry in entries])
        self.positive_rows = np.flatnonzero(self.labels != background)
        self.negative_rows = np.flatnonzero(self.labels == background)
        for name, rows in (("objects", self.positive_rows), ("background", self.negative_rows)):
            if not len(rows):
                raise ValueError(
                    f"fine-tuning found no windows on {name} in {len(entries)} pictures; "
                    "expected annotated objects that the proposals overlap: "
                    "run python tools/make_proposals.py --report to see how many they cover"
                )

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """Batch number ``step``: pooled rows ``(B, D)`` float32 and labels ``(B,)`` int64."""
        rng = np.random.default_rng([self.seed, step])
        rows = np.concatenate(
            [
                rng.choice(self.positive_rows, self.positives),
                rng.choice(self.negative_rows, self.negatives),
            ]
        )
        return torch.from_numpy(self.rows[rows].astype(np.float32)), torch.from_numpy(
            self.labels[rows]
        )


def learning_rate_at(step: int, settings: Finetune) -> float:
    """The rate of a step: constant, a tenth from 2/3 of the steps on, a hundredth from 9/10 on."""
    done = step / settings.steps
    return settings.learning_rate * (1.0 if done < 2 / 3 else 0.1 if done < 0.9 else 0.01)


def mean_square(entries: Sequence[BankEntry]) -> float:
    """Mean over elements of the squared random windows' features, for He initialisation.

    Raises:
        ValueError: when all features are 0, as with a dead network.
    """
    sums = [
        np.square(entry.random_rows.read().astype(np.float64)).mean(axis=1) for entry in entries
    ]
    value = float(np.concatenate(sums).mean())
    if not value > 0:
        raise ValueError("all pooled features are 0; expected a working network: check the weights")
    return value


def finetune_head(
    entries: Sequence[BankEntry],
    held_back: Sequence[BankEntry],
    head: Head,
    settings: Finetune,
    *,
    checkpoint: Path,
    key: str,
    seed: int,
    autocast: bool = False,
    report: Callable[[Mapping[str, Any]], None] = lambda event: None,
    progress: Progress = silent,
) -> Head:
    """Train a head by gradient descent on windows drawn from the bank.

    Batches hold ``positive_share`` windows with IoU in [0.5, 1] and the rest in [0.1, 0.5). The
    last step's weights are kept: nothing is selected on the held-back pictures, which only draw
    the learning curve.

    Args:
        entries: pictures to train on.
        held_back: pictures for the curve; may be empty.
        head: initialised; trained in place.
        settings: schedule and penalties.
        checkpoint: file to resume from and to write every ``checkpoint_every`` steps.
        key: what determines this training; a checkpoint of another key is not resumed.
        seed: of batches and dropout.
        autocast: multiply in bfloat16.
        report: called with the events of the curve.
        progress: wraps the steps.

    Raises:
        RuntimeError: the loss is not finite; its parts are in the message.
    """
    device = next(head.parameters()).device
    background = head.fc8.out_features - 1
    sampler = BatchSampler(
        entries, background, batch=settings.batch, positive_share=settings.positive_share, seed=seed
    )
    curve = curve_batches(held_back, background, settings)
    decayed = [layer.weight for layer in (head.fc6, head.fc7, head.fc8)]
    plain = [layer.bias for layer in (head.fc6, head.fc7, head.fc8)]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": plain},
    ]
    optimizer = torch.optim.SGD(
        groups, lr=settings.learning_rate, momentum=settings.momentum, fused=True
    )
    first = resume(checkpoint, key, head, optimizer)
    losses: list[float] = []
    for step in progress(range(first, settings.steps), "fine-tuning", settings.steps - first):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, settings)
        pooled, labels = (tensor.to(device) for tensor in sampler.draw(step))
        # Dropout's masks depend on the step alone, so that a resumed run repeats them.
        torch.manual_seed(seed * 1_000_003 + step)
        head.train()
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            logits = head(pooled)
        loss = finite_loss(logits.float(), labels, background, step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        done = step + 1
        if done % CURVE_EVERY == 0 or done == settings.steps:
            event = {"step": done, "train_loss": float(np.mean(losses))}
            report(event | curve_point(head, curve, background, autocast))
            losses = []
        if done % settings.checkpoint_every == 0 and done < settings.steps:
            save_checkpoint(checkpoint, key, done, head, optimizer)
    return head.eval()


def finite_loss(logits: Tensor, labels: Tensor, background: int, step: int) -> Tensor:
    """Mean cross-entropy of a batch.

    Raises:
        RuntimeError: it is not finite; the message has the parts of objects and background.
    """
    losses = cross_entropy(logits, labels, reduction="none")
    loss = losses.mean()
    if not torch.isfinite(loss):
        objects = labels != background
        raise RuntimeError(
            f"fine-tuning diverged at step {step}: loss {loss.item()} "
            f"(objects {losses[objects].mean().item()}, background "
            f"{losses[~objects].mean().item()}, largest logit "
            f"{logits.abs().max().item()}); try a lower --finetune.learning_rate"
        )
    return loss


def curve_batches(
    entries: Sequence[BankEntry], background: int, settings: Finetune
) -> list[tuple[Tensor, Tensor]]:
    """The fixed held-back batches of the learning curve; none without held-back pictures."""
    if not any((entry.labels != background).any() for entry in entries):
        return []
    sampler = BatchSampler(
        entries, background, batch=settings.batch, positive_share=settings.positive_share, seed=1
    )
    return [sampler.draw(step) for step in range(CURVE_BATCHES)]


@torch.no_grad()
def curve_point(
    head: Head, batches: Sequence[tuple[Tensor, Tensor]], background: int, autocast: bool
) -> dict[str, float]:
    """Loss, error and error on objects of held-back batches; empty without batches."""
    if not batches:
        return {}
    device = next(head.parameters()).device
    head.eval()
    loss, wrong, wrong_objects, objects, count = 0.0, 0, 0, 0, 0
    for pooled, labels in batches:
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            logits = head(pooled.to(device)).float().cpu()
        miss = logits.argmax(dim=1) != labels
        is_object = labels != background
        loss += cross_entropy(logits, labels, reduction="sum").item()
        wrong += int(miss.sum())
        wrong_objects += int((miss & is_object).sum())
        objects += int(is_object.sum())
        count += len(labels)
    return {
        "held_back_loss": loss / count,
        "held_back_error": wrong / count,
        "held_back_object_error": wrong_objects / objects,
    }


def save_checkpoint(
    path: Path, key: str, step: int, head: Head, optimizer: torch.optim.SGD
) -> None:
    """Write weights, momentum and step, whole or not at all."""
    tensors = {f"head.{name}": value for name, value in head.state_dict().items()}
    for name, parameter in head.named_parameters():
        tensors[f"momentum.{name}"] = optimizer.state[parameter]["momentum_buffer"]
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with write_atomic(path) as file:
        file.write(to_safetensors(tensors, {"key": key, "step": str(step)}))


def resume(path: Path, key: str, head: Head, optimizer: torch.optim.SGD) -> int:
    """Load a checkpoint of the same training, if there is one; returns the next step.

    Raises:
        ValueError: the file is not a checkpoint.
    """
    if not path.exists():
        return 0
    try:
        with safe_open(path, "pt") as file:
            facts = file.metadata() or {}
            if facts.get("key") != key:
                return 0
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a fine-tuning checkpoint ({error}); delete it and run again"
        ) from error
    head.load_state_dict(
        {name[5:]: value for name, value in tensors.items() if name.startswith("head.")}
    )
    for name, parameter in head.named_parameters():
        momentum = tensors[f"momentum.{name}"].to(parameter.device)
        optimizer.state[parameter]["momentum_buffer"] = momentum
    logger.info("fine-tuning goes on from step %s", facts["step"])
    return int(facts["step"])
