"""The stages of training, in the paper's order; each reuses what it already made.

A stage's artefact is named by a key of everything that determines it, so a second call does what is
missing, and a run killed anywhere and started again ends with the same bytes.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from detection.features.build import build_extractor
from detection.features.extractor import Extractor, SPPExtractor
from detection.features.scales import SCALES
from detection.inference.layers import LayerFeatures, part
from detection.networks.backbone import Backbone
from detection.networks.build import build_backbone
from detection.networks.head import Head
from detection.networks.weights import Weights, tensor_digest
from detection.run import Run
from detection.training import finetune
from detection.training.batches import WindowBatches, trainable
from detection.training.finetune import PyramidNetwork, finetune_head
from detection.training.memory import freed_memory_kept
from detection.training.window_bank import BankEntry, Sampling, WindowBank, picture_key
from proposals.disk import key_of, read_picture, write_atomic
from proposals.store import WindowStore

FEATURE_NORM = 20.0
# Pictures that the mean square of pooled features is taken over, and windows of each.
SQUARE_PICTURES, SQUARE_WINDOWS = 50, 8
# Steps of fine-tuning; handed back every 100, a process still grew to 5.9 GB (docs/LOG.md).
HAND_BACK_EVERY = 10

logger = logging.getLogger(__name__)


def weights_folder(run: Run) -> Path:
    """Where network weights are kept."""
    return Path(run.config.network.folder)


def finetune_stage(
    run: Run, data: Dataset, windows: WindowStore, weights: Weights
) -> tuple[Backbone, Head | None, str]:
    """Fine-tune the head and, where the settings say so, convolutions on windows.

    Args:
        run: the run.
        data: the training pictures.
        windows: of each.
        weights: what the trunk starts from, and fc6 and fc7 where they hold ImageNet's; otherwise
            these start from He initialisation.

    Returns:
        The trunk, the head and the key of both. No head, and nothing trained, where only pool5 is
        asked for and the convolutions are left alone.
    """
    config = run.config
    backbone = build_backbone(config.network.name, weights).to(run.device)
    if config.svm.layers == ("pool5",) and config.finetune.layers == "fc":
        return backbone, None, key_of({"weights": weights.digest})
    if config.features != "spp":
        raise ValueError(
            "fine-tuning goes through the pyramid, so with --features rcnn only --svm.layers "
            "[pool5] and --finetune.layers fc can be trained"
        )
    extractor = SPPExtractor(backbone, SCALES[config.scales], config.network.scale_rule)
    settings = asdict(config.finetune)
    del settings["checkpoint_every"]
    key = key_of(
        {
            "version": finetune.VERSION,
            "features": extractor.facts,
            "windows": windows.method.key,
            "classes": list(data.classes),
            "pictures": [picture_key(record) for record in data.records],
            "difficult": config.data.difficult,
            "settings": settings,
            "seed": config.seed,
            "imagenet": weights.classifier is not None and tensor_digest(weights.classifier),
            "precision": config.precision,
        }
    )
    head = Head(
        extractor.length, len(data.classes), config.finetune.hidden, config.finetune.dropout
    )
    path = head_path(run, key)
    if path.exists():
        run.reused("fine-tuning", path)
    else:
        with run.stage("fine-tuning"), freed_memory_kept() as hand_back:
            network = _finetune(run, data, windows, extractor, head, weights, key, hand_back)
            state = {f"head.{n}": v for n, v in network.head.state_dict().items()}
            state |= {f"trunk.{n}": v for n, v in network.trunk.state_dict().items()}
            write_tensors(path, {name: value.cpu().numpy() for name, value in state.items()})
        _checkpoint(run).unlink(missing_ok=True)
    found = {name: torch.from_numpy(value) for name, value in load_file(path).items()}
    head.load_state_dict(part(found, "head."))
    backbone.trunk.load_state_dict(part(found, "trunk."))
    backbone.digest = tensor_digest(part(found, "trunk."))
    return backbone, head.to(run.device).eval(), key


def head_path(run: Run, key: str) -> Path:
    """The artefact of fine-tuning: ``head.`` and ``trunk.`` tensors."""
    return run.artefact("head", key)


def _checkpoint(run: Run) -> Path:
    return run.folder / "stages" / "fine-tuning.checkpoint"


def _finetune(
    run: Run,
    data: Dataset,
    windows: WindowStore,
    extractor: SPPExtractor,
    head: Head,
    weights: Weights,
    key: str,
    hand_back: Callable[[], None],
) -> PyramidNetwork:
    config = run.config
    generator = torch.Generator().manual_seed(config.seed)
    head.initialise(generator, mean_square(data.records, windows, extractor, config.seed))
    if weights.classifier is not None:
        head.start_from_imagenet(weights.classifier, generator)
    train, held = split_held_back(len(data.records), config.finetune.held_back, config.seed)
    # Pictures without objects draw no curve.
    held = [row for row in held if trainable(data.records[row], config.data.difficult)]

    def batches(rows: Sequence[int], seed: int) -> WindowBatches:
        """The batches drawn from some of the pictures."""
        return WindowBatches(
            [data.records[row] for row in rows],
            windows,
            len(data.classes),
            extractor,
            config.finetune,
            difficult=config.data.difficult,
            seed=seed,
        )

    def report(event: Mapping[str, Any]) -> None:
        """A point of the learning curve, to the log and to metrics.jsonl."""
        run.event("fine-tuning", **event)
        logger.info("%s", "  ".join(f"{name} {value:.4g}" for name, value in event.items()))

    def steps(items: Iterable[Any], what: str, total: int) -> Iterator[Any]:
        """The run's progress; pictures differ in size, so kept memory is handed back on the way."""
        for number, item in enumerate(run.progress(items, what, total), start=1):
            yield item
            if number % HAND_BACK_EVERY == 0:
                hand_back()

    network = PyramidNetwork(extractor, head.to(run.device), config.finetune.layers)
    finetune_head(
        network,
        batches(train, config.seed),
        batches(held, config.seed + 1) if held else None,
        config.finetune,
        checkpoint=_checkpoint(run),
        key=key,
        autocast=config.precision == "bfloat16",
        report=report,
        progress=steps,
    )
    return network


def split_held_back(count: int, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices to train on and to hold back for the learning curve; drawn by seed, in order."""
    held = np.random.default_rng(seed).permutation(count)[: round(count * share)]
    rest = np.setdiff1d(np.arange(count), held)
    return rest.tolist(), sorted(held.tolist())


def mean_square(
    records: Sequence[ImageRecord], windows: WindowStore, extractor: Extractor, seed: int
) -> float:
    """Mean over elements of the squared features of random windows, for He initialisation.

    Raises:
        ValueError: when all features are 0, as with a dead network.
    """
    rng = np.random.default_rng(seed)
    squares = []
    for row in rng.permutation(len(records))[:SQUARE_PICTURES]:
        found = windows.load(records[row].path)
        some = found[rng.permutation(len(found))[:SQUARE_WINDOWS]]
        features = extractor.features(read_picture(records[row].path), some)
        pooled = features.pooled[torch.from_numpy(features.index)]
        squares.append(pooled.double().square().mean().item())
    value = float(np.mean(squares))
    if not value > 0:
        raise ValueError("all pooled features are 0; expected a working network: check the weights")
    return value


def make_extractor(run: Run, backbone: Backbone) -> Extractor:
    """What makes the features that SVMs and box regression learn from."""
    config = run.config
    return build_extractor(
        config.features,
        backbone,
        SCALES[config.scales],
        config.network.scale_rule,
        config.precision,
    )


def bank_stage(run: Run, data: Dataset, windows: WindowStore, extractor: Extractor) -> WindowBank:
    """Features of the windows that SVMs take for positives and box regression learns from."""
    config = run.config
    sampling = Sampling(config.data.difficult, config.bbox.min_iou, config.seed)
    bank = WindowBank(run.cache, extractor, windows.method.key, data.classes, sampling)
    missing = [record for record in data.records if not bank.has(record)]
    run.done_before("training windows", len(data.records) - len(missing), len(data.records))
    if missing:
        with run.stage("training windows"):
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


def data_key(bank: WindowBank, data: Dataset) -> str:
    """What determines the rows a run learns from: the bank's settings and every picture."""
    return key_of({"bank": bank.key, "pictures": [picture_key(record) for record in data.records]})


def write_tensors(
    path: Path, tensors: dict[str, NDArray], facts: dict[str, str] | None = None
) -> None:
    """Write named arrays as safetensors, whole or not at all."""
    with write_atomic(path) as file:
        file.write(to_safetensors({n: np.ascontiguousarray(v) for n, v in tensors.items()}, facts))


def mean_norm_factor(norms: NDArray[np.float32]) -> float:
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


def layer_features(run: Run, entries: Sequence[BankEntry], head: Head | None) -> LayerFeatures:
    """The layers' features at mean norm 20 over the bank's random windows."""
    layers = sorted({"pool5", *run.config.svm.layers})
    raw = LayerFeatures(head, {}, run.config.precision)
    norms: dict[str, list[NDArray]] = {layer: [] for layer in layers}
    for first in range(0, len(entries), 250):
        rows = [entry.random_rows.read() for entry in entries[first : first + 250]]
        pooled = torch.from_numpy(np.concatenate(rows).astype(np.float32))
        for layer, features in raw(pooled, layers).items():
            norms[layer].append(np.linalg.norm(features, axis=1))
    factors = {layer: mean_norm_factor(np.concatenate(each)) for layer, each in norms.items()}
    return LayerFeatures(head, factors, run.config.precision)
