"""The stages of training, in the paper's order; each reuses what it already made.

A stage's artefact is named by a key of everything that determines it, so a second call does what is
missing, and a run killed anywhere and started again ends with the same bytes.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed, parallel_config
from numpy.typing import NDArray
from safetensors.numpy import load_file
from safetensors.numpy import save as to_safetensors

from detection.data.records import Dataset, ImageRecord
from detection.features.extractor import SPPExtractor
from detection.features.scales import SCALES
from detection.inference.detector import FeatureHead
from detection.networks.backbone import Backbone
from detection.networks.head import Head
from detection.networks.weights import tensor_digest
from detection.run import Run
from detection.training import finetune
from detection.training.finetune import finetune_head, mean_square
from detection.training.memory import freed_memory_kept
from detection.training.window_bank import BankEntry, Sampling, WindowBank
from proposals.disk import key_of, write_atomic
from proposals.store import WindowStore

FEATURE_NORM = 20.0
VERSION = 1

logger = logging.getLogger(__name__)


def make_extractor(run: Run, backbone: Backbone) -> SPPExtractor:
    """The feature extractor of a run."""
    config = run.config
    return SPPExtractor(
        backbone.to(run.device),
        SCALES[config.scales],
        config.network.scale_rule,
        config.precision,
    )


def weights_folder(run: Run) -> Path:
    """Where network weights are kept."""
    return Path(run.config.network.folder)


def extractor_key(extractor: SPPExtractor) -> str:
    """What determines an extractor's features."""
    return key_of(
        {
            "version": VERSION,
            "network": extractor.backbone.name,
            "weights": extractor.backbone.digest,
            "scales": list(extractor.scales),
            "scale_rule": extractor.scale_rule,
            "precision": extractor.precision,
            "device": extractor.backbone.device.type,
        }
    )


def pool_windows(
    run: Run, data: Dataset, windows: WindowStore, extractor: SPPExtractor
) -> WindowBank:
    """Pool the windows that fine-tuning and box regression learn from."""
    config = run.config
    sampling = Sampling(
        positives=config.finetune.positives_per_view,
        negatives=config.finetune.negatives_per_view,
        scale=config.finetune.scale,
        difficult=config.data.difficult,
        regression_iou=config.bbox.min_iou,
        seed=config.seed,
    )
    bank = WindowBank(
        run.cache,
        extractor,
        extractor_key(extractor),
        windows.method.key,
        data.classes,
        sampling,
    )
    missing = [record for record in data.records if not bank.has(record)]
    done = len(data.records) - len(missing)
    run.done_before("pooled features", done, len(data.records))
    if not missing:
        return bank
    with run.stage("pooled features"):
        for _ in run.progress(_pool_all(run, bank, windows, missing), "pooling", len(missing)):
            pass
    return bank


def _pool_all(
    run: Run, bank: WindowBank, windows: WindowStore, records: Sequence[ImageRecord]
) -> Iterator[None]:
    """Pool pictures: on CPU one a process, which uses the cores better than threads do."""
    jobs = (delayed(bank.add)(record, windows.load(record.path)) for record in records)
    workers = run.workers if run.device.type == "cpu" else 1
    with parallel_config(backend="loky", inner_max_num_threads=1):
        yield from Parallel(n_jobs=workers, return_as="generator_unordered")(jobs)


def split_held_back(count: int, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices to train on and to hold back for the learning curve; drawn by seed, in order."""
    held = np.random.default_rng(seed).permutation(count)[: round(count * share)]
    rest = np.setdiff1d(np.arange(count), held)
    return rest.tolist(), sorted(held.tolist())


def data_key(bank: WindowBank, data: Dataset) -> str:
    """What determines the rows a run learns from: the bank's settings and every picture."""
    return key_of({"bank": bank.key, "pictures": [bank.name_of(record) for record in data.records]})


def finetune_stage(
    run: Run,
    data: Dataset,
    bank: WindowBank,
    entries: Sequence[BankEntry],
    classifier: dict[str, torch.Tensor] | None,
) -> tuple[Head, str]:
    """Fine-tune fc6, fc7 and the (K+1)-way layer; returns the head and its key.

    Args:
        run: the run.
        data: the training pictures.
        bank: their pooled windows.
        entries: the bank's rows of every picture.
        classifier: ImageNet's fc6 and fc7 to start from, or None for He initialisation.
    """
    config = run.config
    settings = asdict(config.finetune)
    del settings["checkpoint_every"]
    key = key_of(
        {
            "version": finetune.VERSION,
            "data": data_key(bank, data),
            "settings": settings,
            "seed": config.seed,
            "imagenet": classifier is not None and tensor_digest(classifier),
            "precision": config.precision,
            "device": run.device.type,
        }
    )
    in_features = entries[0].pooled.length
    head = Head(in_features, len(data.classes), config.finetune.hidden, config.finetune.dropout)
    path = run.artefact("head", key)
    if path.exists():
        run.reused("fine-tuning", path)
    else:
        with run.stage("fine-tuning"), freed_memory_kept():
            head = _finetune(run, entries, head, classifier, key)
            write_tensors(path, {n: v.cpu().numpy() for n, v in head.state_dict().items()})
        _checkpoint(run).unlink(missing_ok=True)
    state = {name: torch.from_numpy(value) for name, value in load_file(path).items()}
    head.load_state_dict(state)
    return head.to(run.device).eval(), key


def _checkpoint(run: Run) -> Path:
    return run.folder / "stages" / "fine-tuning.checkpoint"


def _finetune(
    run: Run,
    entries: Sequence[BankEntry],
    head: Head,
    classifier: dict[str, torch.Tensor] | None,
    key: str,
) -> Head:
    config = run.config
    generator = torch.Generator().manual_seed(config.seed)
    head.initialise(generator, mean_square(entries))
    if classifier is not None:
        head.start_from_imagenet(classifier, generator)
    train, held = split_held_back(len(entries), config.finetune.held_back, config.seed)

    def report(event: Mapping[str, Any]) -> None:
        """A point of the learning curve, to the log and to metrics.jsonl."""
        run.event("fine-tuning", **event)
        logger.info("%s", "  ".join(f"{name} {value:.4g}" for name, value in event.items()))

    return finetune_head(
        [entries[index] for index in train],
        [entries[index] for index in held],
        head.to(run.device),
        config.finetune,
        checkpoint=_checkpoint(run),
        key=key,
        seed=config.seed,
        autocast=config.precision == "bfloat16",
        report=report,
        progress=run.progress,
    )


def write_tensors(
    path: Path, tensors: dict[str, NDArray], facts: dict[str, str] | None = None
) -> None:
    """Write named arrays as safetensors, whole or not at all."""
    with write_atomic(path) as file:
        file.write(to_safetensors({n: np.ascontiguousarray(v) for n, v in tensors.items()}, facts))


def mean_norm_scale(norms: NDArray[np.float32]) -> float:
    """Factor that brings features of these L2 norms to mean norm 20 (released code).

    Raises:
        ValueError: all features are 0.
    """
    mean = float(np.mean(norms, dtype=np.float64))
    if not mean > 0:
        raise ValueError(
            "all features are 0, so they cannot be scaled; was fine-tuning too strong?"
        )
    return FEATURE_NORM / mean


def random_rows(entries: Sequence[BankEntry]) -> Iterator[torch.Tensor]:
    """Pooled random windows, 250 pictures at a time, float32."""
    for first in range(0, len(entries), 250):
        rows = [entry.random_rows.read() for entry in entries[first : first + 250]]
        yield torch.from_numpy(np.concatenate(rows).astype(np.float32))


def feature_head(run: Run, entries: Sequence[BankEntry], head: Head) -> FeatureHead:
    """fc7 at mean norm 20 over the bank's random windows."""
    raw = FeatureHead(head, 1.0, run.config.precision)
    norms = [np.linalg.norm(raw(rows), axis=1) for rows in random_rows(entries)]
    return FeatureHead(head, mean_norm_scale(np.concatenate(norms)), run.config.precision)
