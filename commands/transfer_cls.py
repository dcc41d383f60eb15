"""Classify by a fixed network's features and linear SVMs (paper, Tables 6 and 7).

    python tools/transfer_cls.py voc07 --data.train_split train --data.test_split minival
    python tools/transfer_cls.py voc07 --network.name vgg16 --views [full-392] --features [conv5]
    python tools/transfer_cls.py voc07 --views [full-224,full-320,full-392,full-448] --choose
    python tools/transfer_cls.py caltech101 --data.root ../shared/caltech101

A view is crop (the centre), full (aspect kept) or warp (a square), with its shorter side. For each
layer and view the command prints the result on the test images and, with several views, the gain of
each view over the one before. C is chosen on training images held back, in each split anew. With
--choose you can choose views on the same images: it reads no test image (with several splits, none
of the first). Features and their inner products are kept in the cache, so a second call takes
seconds. A page with classes, confusions and the worst images goes to runs/transfer_cls. Images that
cannot be read are left out and listed, with exit status 3.
"""

import json
import sys
from dataclasses import asdict, replace
from typing import Literal

from classification.transfer.caltech101 import Caltech101, CaltechData
from classification.transfer.extractor_spec import (
    ExtractorSpec,
    FixedNetwork,
    extractor_of_process,
)
from classification.transfer.feature_store import FeatureStore
from classification.transfer.layers import Layer
from classification.transfer.report import Measured, write_transfer_report
from classification.transfer.task import Task
from classification.transfer.view import View
from classification.transfer.voc07 import Voc07, VocData
from commands.cli import end, run_tool, with_progress
from commands.transfer_rows import Asked, Rows, values_of
from detection.config import Config
from detection.evaluation.report import NO_AP
from detection.leftovers import sweep
from detection.machine import Precision, environment, fixed_threads, native_precision
from detection.run import Run
from detection.settings.data import Data

FEATURES: tuple[Layer, ...] = ("pool5_6x6", "pool5_pyramid")
Device = Literal["auto", "cpu", "cuda"]


def voc07(
    data: VocData = VocData(),  # noqa: B008 - frozen
    network: FixedNetwork = FixedNetwork(),  # noqa: B008 - frozen
    features: tuple[Layer, ...] = FEATURES,
    views: tuple[str, ...] = ("crop-224", "full-224", "full-392"),
    C: float | None = None,
    choose: bool = False,
    seed: int = 0,
    device: Device = "auto",
    workers: int = 0,
    cluster: str | None = None,
    limit: int | None = None,
    precision: Precision = "float32",
    strict: bool = False,
    csv: str | None = None,
) -> None:
    """VOC 2007 classification: mAP at 11 recalls.

    Args:
        data: the images.
        network: the network that computes the features.
        features: layers to use as features.
        views: what the network sees of an image, such as full-392.
        C: weight of the SVMs' loss; by default chosen on a third of the training images.
        choose: measure on that third only, to choose views; no test image is read.
        seed: seed of the choice of images held back.
        device: where the network runs; 'auto' uses a CUDA device if there is one.
        workers: number of processes, 0 for one per core.
        cluster: address of a Dask scheduler, such as tcp://scheduler:8786; its workers compute the
            features instead of this machine, and need images, weights and cache at the same paths.
        limit: use only the first so many images of each list.
        precision: number format of the convolutions; bfloat16 is faster but less exact. Machines
            without bfloat16 instructions use float32 instead.
        strict: stop at the first image that cannot be read.
        csv: table to which rows of results are added.
    """
    seen = tuple(map(View.parse, views))
    asked = Asked(network, features, seen, C, choose, seed, precision, csv)
    run = run_of(data.cache, device, workers, cluster, strict)
    transfer(run, Voc07(data, seed, limit, training_only=choose), asked)


def caltech101(
    data: CaltechData = CaltechData(),  # noqa: B008 - frozen
    network: FixedNetwork = FixedNetwork(),  # noqa: B008 - frozen
    features: tuple[Layer, ...] = FEATURES,
    views: tuple[str, ...] = ("crop-224", "warp-224", "full-224"),
    C: float | None = None,
    choose: bool = False,
    seed: int = 0,
    device: Device = "auto",
    workers: int = 0,
    cluster: str | None = None,
    precision: Precision = "float32",
    strict: bool = False,
    csv: str | None = None,
) -> None:
    """Caltech-101: mean over classes and over images, for several random splits.

    Args:
        data: the images.
        network: the network that computes the features.
        features: layers to use as features.
        views: what the network sees of an image, such as full-392.
        C: weight of the SVMs' loss; by default each split chooses it on a third of its training
            images.
        choose: measure on that third of the first split only, to choose views; this is fair for
            the first split's test images. Other splits test on some of the images used here.
        seed: seed of the splits.
        device: where the network runs; 'auto' uses a CUDA device if there is one.
        workers: number of processes, 0 for one per core.
        cluster: address of a Dask scheduler, such as tcp://scheduler:8786; its workers compute the
            features instead of this machine, and need images, weights and cache at the same paths.
        precision: number format of the convolutions; bfloat16 is faster but less exact. Machines
            without bfloat16 instructions use float32 instead.
        strict: stop at the first image that cannot be read.
        csv: table to which rows of results are added.
    """
    seen = tuple(map(View.parse, views))
    asked = Asked(network, features, seen, C, choose, seed, precision, csv)
    run = run_of(data.cache, device, workers, cluster, strict)
    transfer(run, Caltech101(data, seed), asked)


def run_of(cache: str, device: Device, workers: int, cluster: str | None, strict: bool) -> Run:
    """The run that distributes the work; its folder is only for the scores."""
    config = Config(
        run="runs/transfer_cls",
        device=device,
        workers=workers,
        cluster=cluster,
        strict=strict,
        data=Data(cache=cache),
    )
    fixed_threads()
    run = Run(config, " ".join(sys.argv), with_progress)
    sweep(run.folder, run.cache)
    return run


def transfer(run: Run, task: Task, asked: Asked) -> None:
    """Extract, train, test and print, view by view, and write the page; see the functions above."""
    precision = native_precision(asked.precision, run.device)
    spec = ExtractorSpec.of(asked.network, precision, run.device.type)
    extractor = extractor_of_process(spec)
    for view in asked.views:
        extractor.check(view)
    store, rows = FeatureStore(run, spec), Rows.of(task, spec, asked)
    measured: list[Measured] = []
    for view in asked.views:
        missing = {layer: extractor.why_not(layer, view) for layer in asked.features}
        store.make(task.paths, view, [layer for layer in asked.features if missing[layer] is None])
        for layer, reason in missing.items():
            if reason is not None:
                print(f"{layer} {view}: {NO_AP} ({reason})", flush=True)
                rows.put(layer, view, {reason: NO_AP})
                continue
            gram, unreadable = store.gram(task.paths, view, layer)
            task.leave_out(unreadable)
            if asked.choose:
                C, value = task.choose(gram)
                print(f"{layer} {view}: held back {value:.4f} at C {C:g}", flush=True)
                continue
            outcome = task.evaluate(gram, asked.C)
            measured.append(beside_before(task, measured, Measured(layer, view, outcome)))
            found = values_of(measured[-1])
            values = ", ".join(f"{name} {value}" for name, value in found.items())
            print(f"{layer} {view}: {values}", flush=True)
            rows.keep(run.folder, layer, view, outcome)
            rows.put(layer, view, found)
    if measured:
        report(run, task, asked, measured, rows.settings)
    store.tell_size()
    end(task.unreadable)


def report(run: Run, task: Task, asked: Asked, measured: list[Measured], key: str) -> None:
    """Write the page, whose name has the settings' key, and print its path."""
    network = asked.network.name
    path = run.folder / f"{task.name}_{network.replace('/', '_')}-{key}.html"
    write_transfer_report(
        path,
        title=f"{task.name} by {network}'s features",
        task=task,
        measured=measured,
        facts={"command": run.command, "environment": environment()},
        settings=json.dumps(asdict(asked) | {"task": asdict(task.data)}, indent=2),
    )
    print(f"classes, confusions and the worst images are in {path}")


def beside_before(task: Task, before: list[Measured], one: Measured) -> Measured:
    """A layer and view, with its gain over the layer's last view."""
    earlier = [each for each in before if each.layer == one.layer]
    if not earlier:
        return one
    gains = task.gain(earlier[-1].outcome, one.outcome)
    return replace(one, before=earlier[-1].view, gains=gains)


def run() -> None:
    """Call the named task with the flags of the command line."""
    run_tool({"voc07": voc07, "caltech101": caltech101})
