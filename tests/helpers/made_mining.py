"""A world with more images, and hard-negative mining in it."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
from made_world import CLASSES, FakeExtractor, made_sample, made_world

from detection.data.records import Dataset
from detection.training.mining.hard_windows import HeadFile
from detection.training.mining.search import Mining
from files.artefacts import write_artefact

IMAGES = 13


def made_mining_world(folder):
    """Return a world with more images than made_world; the last image has no objects."""
    world = made_world(folder)
    rng = np.random.default_rng(7)
    images = [made_sample(folder, number, rng) for number in range(IMAGES)]
    records = [record for record, _, _ in images]
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool)
    records[-1] = replace(records[-1], boxes=none[0], labels=none[1], difficult=none[2])
    by_path = {record.path: windows for record, windows, _ in images}
    world.data = Dataset(tuple(records), CLASSES)
    world.windows = SimpleNamespace(load=by_path.__getitem__)
    world.entries = [entry for _, _, entry in images[:-1]]
    world.head = HeadFile(folder / "head.safetensors", "head")
    state = world.features.head.state_dict()
    named = {f"head.{name}": value.numpy() for name, value in state.items()}
    write_artefact(world.head.path, world.head.key, named)
    return world


def made_mining(world, run):
    extractor = FakeExtractor()
    return Mining(
        run, run.config.svm, world.data, world.windows, extractor, world.features, world.head
    )
