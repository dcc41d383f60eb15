"""Time a classifier's training against torchvision's loop, and views from maps against crops.

    python tools/benchmark_cls.py --root ../shared/clothing15 --out docs/results/benchmark_cls.json

Two loops train the configuration's network on the same folder, at one size, with the same number of
reading processes: ours, and the loop of torchvision's references (ImageFolder, Resize, RandomCrop,
flip, DataLoader, SGD), which decodes each image in each epoch. They take turns. Then 96 views of
some images are timed: pooled from maps, as a batch of crops, and as crops one after the other.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from joblib import cpu_count
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from classification.config import Config
from classification.epochs import make_optimizer
from classification.folder import read_folder
from classification.network import PyramidClassifier, build_network
from classification.run import ClassifierRun
from classification.scorer import ViewScorer
from classification.training import train_classifier
from classification.views import inputs_of
from commands.cli import parse_config, run_tool, with_progress
from detection.events import read_events
from detection.machine import environment, fixed_threads
from detection.ranks import joined
from files.images import read_image
from files.writing import refuse_folders, save_text


def main(
    root: Path,
    config: Path = Path("configs/clothing_small.yaml"),
    epochs: int = 3,
    rounds: int = 2,
    images: int = 4,
    workers: int = 0,
    out: Path | None = None,
) -> None:
    """Print images per second and seconds per image, and the ratios.

    Args:
        root: folder of train/CLASS/ and val/CLASS/.
        config: configuration whose network, crop and batch are used.
        epochs: epochs of a training; the first, which reads the images, is reported separately.
        rounds: turns of each loop.
        images: number of images whose views are timed.
        workers: number of processes that read, 0 for one per core.
        out: file for the results.
    """
    if epochs < 2:
        raise ValueError(
            f"--epochs must be 2 or more, as the first is reported separately, got {epochs}"
        )
    refuse_folders([out])
    fixed_threads()
    settings: Config = parse_config(["--config", str(config)], Config)
    settings = replace(
        settings,
        device="cpu",
        workers=workers or cpu_count(),
        data=replace(settings.data, root=str(root)),
        training=replace(settings.training, sizes="single", epochs=epochs, test_every=epochs),
    )
    rates: dict[str, list[list[float]]] = {"ours": [], "torchvision": []}
    for turn in with_progress(range(2 * rounds), "trainings", 2 * rounds):
        name, loop = (("ours", ours), ("torchvision", torchvisions))[turn % 2]
        rates[name].append(loop(settings))
    result = {
        "command": " ".join(sys.argv),
        "date": time.strftime("%Y-%m-%d"),
        "environment": environment(),
        "images_per_second": {
            name: {
                "first epoch": median(each[0] for each in found),
                "other epochs": median(rate for each in found for rate in each[1:]),
            }
            for name, found in rates.items()
        },
        "views": time_views(settings, images),
    }
    show(result)
    if out is not None:
        save_text(out, json.dumps(result, indent=2) + "\n")


def ours(config: Config) -> list[float]:
    """Images a second of each epoch of ``train_cls``."""
    train = read_folder(config.data.root, "train")
    val = read_folder(config.data.root, "val", train.classes)
    with tempfile.TemporaryDirectory() as folder:
        run = ClassifierRun(replace(config, run=folder))
        with joined(run.device) as ranks:
            train_classifier(run.config, run, ranks, train, val)  # type: ignore[arg-type]
        events = read_events(run.folder)
    return [each["images_per_second"] for each in events if each["event"] == "epoch"]


def torchvisions(config: Config) -> list[float]:
    """Images a second of each epoch of a loop like torchvision's references/classification."""
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    settings = config.training
    network = _network(config, len(read_folder(config.data.root, "train").classes)).train()
    seen = network.preprocessing  # of pixels 0..255, torchvision's are 0..1
    mean, deviation = ([value / 255 for value in each] for each in (seen.mean, seen.std))
    data = ImageFolder(
        Path(config.data.root) / "train",
        transforms.Compose(
            [
                transforms.Resize(config.data.shorter_side),
                transforms.RandomCrop(settings.crop),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(mean, deviation),
            ]
        ),
    )
    loader = DataLoader(
        data, settings.batch, shuffle=True, num_workers=config.workers, drop_last=True
    )
    optimizer, rates = make_optimizer(network, settings), []
    for _ in range(settings.epochs):
        start, count = time.perf_counter(), 0
        for pixels, labels in loader:
            loss = cross_entropy(
                network(pixels.contiguous(memory_format=torch.channels_last)), labels
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            count += len(labels)
        rates.append(count / (time.perf_counter() - start))
    return rates


def time_views(config: Config, count: int) -> dict[str, float]:
    """Seconds an image of 96 views by maps and by crops, and how far probabilities differ."""
    train = read_folder(config.data.root, "train")
    crop, size = config.training.crop, config.data.shorter_side
    scorer = ViewScorer(_network(config, len(train.classes)), "multi", crop, size)
    some = np.linspace(0, len(train.names) - 1, count).astype(int)
    images = [read_image(train.path(row)) for row in some]
    ways: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.float32]]] = {
        "maps": lambda image: next(scorer.probabilities([image])),
        "crops together": lambda image: of_crops(scorer, image, together=True),
        "crops one by one": lambda image: of_crops(scorer, image, together=False),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    apart = []
    for image in images:
        found = {}
        for name, way in ways.items():
            start = time.perf_counter()
            found[name] = way(image)
            seconds[name].append(time.perf_counter() - start)
        apart.append(float(np.abs(found["maps"] - found["crops together"]).max()))
    told = {name: median(found) for name, found in seconds.items()}
    return told | {"probabilities differ by": max(apart)}


@torch.inference_mode()
def of_crops(
    scorer: ViewScorer, image: NDArray[np.uint8], *, together: bool
) -> NDArray[np.float32]:
    """Mean probabilities ``(K,)`` of the views of ``scorer``, each cut out and seen for itself."""
    crop = scorer.crop
    crops = [
        each.pixels[top : top + crop, left : left + crop]
        for each in inputs_of(image, scorer.views, crop, scorer.size)
        for top, left in each.corners
    ]
    network, step = scorer.network, len(crops) if together else 1
    parts = [
        network(network.preprocess(torch.from_numpy(np.stack(crops[begin : begin + step]))))
        for begin in range(0, len(crops), step)
    ]
    return torch.cat(parts).double().softmax(dim=1).mean(dim=0).float().numpy()


def show(result: dict) -> None:
    """Print the rates and their ratios."""
    mine, theirs = (result["images_per_second"][name] for name in ("ours", "torchvision"))
    for epochs in mine:
        ratio = mine[epochs] / theirs[epochs]
        print(
            f"{epochs}: {mine[epochs]:.1f} images/s, torchvision's loop {theirs[epochs]:.1f}; "
            f"ratio {ratio:.2f}"
        )
    views = result["views"]
    for name in ("maps", "crops together", "crops one by one"):
        print(f"96 views by {name}: {views[name]:.3f} s an image", end="")
        print("" if name == "maps" else f"; maps take {views['maps'] / views[name]:.2f} of it")
    print(
        f"probabilities from maps and crops differ by {views['probabilities differ by']:.3f} (most)"
    )


def _network(config: Config, classes: int) -> PyramidClassifier:
    """The configuration's network with random weights."""
    return build_network(
        config.network.name,
        classes,
        levels=config.network.levels,
        hidden=config.network.hidden,
        crop=config.training.crop,
        seed=config.seed,
    )


def run() -> None:
    """Call ``main`` with the flags of the command line."""
    run_tool(main)
