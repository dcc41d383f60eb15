"""Trains a classifier by gradient descent at one or several sizes (paper, sections 2.3 and 3.1)."""

from typing import Any

from classification.config import Config
from classification.epochs import Epochs
from classification.folder import LabelledImages
from classification.keys import training_keys
from classification.network import (
    PyramidClassifier,
    build_network,
    load_classifier,
    map_shape,
)
from classification.run import ClassifierRun
from detection.ranks import Ranks


def train_classifier(
    config: Config, run: ClassifierRun, ranks: Ranks, train: LabelledImages, val: LabelledImages
) -> dict[str, Any]:
    """Train a classifier, or resume a killed training, and write the classifier's file.

    The last epoch's weights are used. The val images only measure progress; they do not select
    weights.

    Args:
        config: settings.
        run: run folder, to which only rank 0 writes.
        ranks: the processes that share every batch.
        train: images to learn from.
        val: images to test on.

    Returns:
        The facts in the classifier's file: settings, ``tested``, and ``skipped``, the images that
        could not be read.

    Raises:
        ValueError: there are fewer images than in a batch, or a size is too small for the trunk.
        RuntimeError: the loss is not finite.
    """
    network = _network(config, ranks, train)
    keys = training_keys(config, train, val)
    path = run.classifier_path
    if path.exists():
        facts = load_classifier(path)[2]
        if facts["key"] == keys.key:
            if ranks.rank == 0:
                run.reused("training", path)
                run.save_settings()
            return facts
    return Epochs(config, run, ranks, train, val, network, keys).run_epochs()


def _network(config: Config, ranks: Ranks, train: LabelledImages) -> PyramidClassifier:
    """The initialised network, on the device.

    Raises:
        ValueError: there are fewer images than in a batch, or a size is too small for the trunk.
    """
    settings, wanted = config.training, config.network
    if not ranks.count <= settings.batch <= len(train.names):
        raise ValueError(
            f"--training.batch must be from {ranks.count}, one image per process, to "
            f"{len(train.names)}, the number of training images; got {settings.batch}"
        )
    network = build_network(
        wanted.name,
        len(train.classes),
        levels=wanted.levels,
        pool=wanted.pool,
        hidden=wanted.hidden,
        dropout=wanted.dropout,
        crop=settings.crop,
        seed=config.seed,
    )
    smallest = settings.crop if settings.sizes == "single" else settings.small
    map_shape(wanted.name, network.trunk, smallest)
    return network.to(ranks.device)
