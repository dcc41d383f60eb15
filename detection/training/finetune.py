"""Fine-tuning of fc6, fc7 and a (K+1)-way layer on pooled windows (paper 4.1)."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor
from torch.nn.functional import cross_entropy

from detection.config import Finetune
from detection.networks.head import Head
from detection.run import Progress, silent
from detection.training.window_bank import BankEntry
from proposals.disk import write_atomic

VERSION = 2
CURVE_EVERY = 250
CURVE_BATCHES = 16
PICTURES_AT_ONCE = 400

logger = logging.getLogger(__name__)


class BatchSampler:
    """Draws training batches from the bank's fine-tuning rows, some pictures at a time.

    As in the released code, batches come from part of the pictures at a time, held in memory: at
    most ``PICTURES_AT_ONCE``, from an endless sequence of permutations of all pictures, in which
    each step moves on by one. So memory is bounded whatever the number of pictures, and each file
    is read whole instead of in scattered rows.

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
        # Both kinds of rows need an object: pictures without one have none.
        self.entries = [entry for entry in entries if len(entry.labels)]
        self.background = background
        self.seed = seed
        self.positives = max(1, round(batch * positive_share))
        self.negatives = batch - self.positives
        self._rows: dict[int, NDArray[np.float16]] = {}
        labels = np.concatenate([entry.labels for entry in entries])
        for name, found in (
            ("objects", (labels != background).any()),
            ("background", (labels == background).any()),
        ):
            if not found:
                raise ValueError(
                    f"fine-tuning found no windows on {name} in {len(entries)} pictures; "
                    "expected annotated objects that the proposals overlap: "
                    "run python tools/make_proposals.py --report to see how many they cover"
                )

    def pictures_at(self, step: int) -> list[int]:
        """Indices of the pictures that batch ``step`` is drawn from."""
        count = len(self.entries)
        if count <= PICTURES_AT_ONCE:
            return list(range(count))
        epochs = range(step // count, (step + PICTURES_AT_ONCE) // count + 1)
        orders = [
            np.random.default_rng([self.seed, 1, epoch]).permutation(count) for epoch in epochs
        ]
        first = step % count
        # A picture can be at the end of one permutation and the beginning of the next.
        window = np.concatenate(orders)[first : first + PICTURES_AT_ONCE]
        return list(dict.fromkeys(window.tolist()))

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """Batch number ``step``: pooled rows ``(B, D)`` float32 and labels ``(B,)`` int64."""
        pictures = self.pictures_at(step)
        self._rows = {
            picture: self._rows[picture]
            if picture in self._rows
            else self.entries[picture].finetune_rows.read()
            for picture in pictures
        }
        labels = np.concatenate([self.entries[picture].labels for picture in pictures])
        rng = np.random.default_rng([self.seed, 0, step])
        chosen = np.concatenate(
            [
                rng.choice(np.flatnonzero(labels != self.background), self.positives),
                rng.choice(np.flatnonzero(labels == self.background), self.negatives),
            ]
        )
        starts = np.cumsum([0] + [len(self.entries[picture].labels) for picture in pictures])
        owner = np.searchsorted(starts, chosen, side="right") - 1
        pooled = np.stack(
            [
                self._rows[pictures[place]][row - starts[place]]
                for place, row in zip(owner, chosen, strict=True)
            ]
        )
        return torch.from_numpy(pooled.astype(np.float32)), torch.from_numpy(labels[chosen])


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
    optimizer = make_optimizer(head, settings)
    first = resume(checkpoint, key, head, optimizer)
    losses: list[float] = []
    for step in progress(range(first, settings.steps), "fine-tuning", settings.steps - first):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, settings)
        pooled, labels = (tensor.to(device) for tensor in sampler.draw(step))
        # Dropout's masks depend on the step alone, so that a resumed run repeats them.
        torch.manual_seed(seed * 1_000_003 + step)
        losses.append(train_step(head, optimizer, pooled, labels, step, autocast))
        done = step + 1
        if done % CURVE_EVERY == 0 or done == settings.steps:
            event = {"step": done, "train_loss": float(np.mean(losses))}
            report(event | curve_point(head, curve, background, autocast))
            losses = []
        if done % settings.checkpoint_every == 0 and done < settings.steps:
            save_checkpoint(checkpoint, key, done, head, optimizer)
    return head.eval()


def train_step(
    head: Head,
    optimizer: torch.optim.Optimizer,
    pooled: Tensor,
    labels: Tensor,
    step: int,
    autocast: bool,
) -> float:
    """One step of descent on a batch; returns its loss.

    Raises:
        RuntimeError: the loss is not finite.
    """
    head.train()
    with torch.autocast(pooled.device.type, torch.bfloat16, enabled=autocast):
        logits = head(pooled)
    loss = finite_loss(logits.float(), labels, head.fc8.out_features - 1, step)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.item()


def make_optimizer(head: Head, settings: Finetune) -> torch.optim.Optimizer:
    """Gradient descent with momentum, plain or scaled by AdamW; biases do not decay."""
    layers = (head.fc6, head.fc7, head.fc8)
    groups: list[dict[str, Any]] = [
        {"params": [layer.weight for layer in layers], "weight_decay": settings.weight_decay},
        {"params": [layer.bias for layer in layers], "weight_decay": 0.0},
    ]
    rate, momentum = settings.learning_rate, settings.momentum
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=momentum, fused=True)
    return torch.optim.AdamW(groups, lr=rate, betas=(momentum, 0.999), fused=True)


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
    """The fixed held-back batches of the learning curve.

    None without held-back pictures, or where these have no windows on objects or on background.
    """
    objects = any((entry.labels != background).any() for entry in entries)
    if not objects or not any((entry.labels == background).any() for entry in entries):
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
    path: Path, key: str, step: int, head: Head, optimizer: torch.optim.Optimizer
) -> None:
    """Write weights, the optimizer's averages and the step, whole or not at all."""
    tensors = {f"head.{name}": value for name, value in head.state_dict().items()}
    for name, parameter in head.named_parameters():
        for kind, value in optimizer.state[parameter].items():
            if value is not None:
                tensors[f"optimizer.{kind}.{name}"] = value
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with write_atomic(path) as file:
        file.write(to_safetensors(tensors, {"key": key, "step": str(step)}))


def resume(path: Path, key: str, head: Head, optimizer: torch.optim.Optimizer) -> int:
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
    parameters = dict(head.named_parameters())
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, kind, parameter = name.split(".", 2)
            place = parameters[parameter].device
            optimizer.state[parameters[parameter]][kind] = value.to(place)
    logger.info("fine-tuning goes on from step %s", facts["step"])
    return int(facts["step"])
