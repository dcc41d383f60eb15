"""The stages of training: their keys, what they reuse, and that a kill changes no byte."""

import json
import logging
from dataclasses import replace
from itertools import groupby
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file
from test_finetune import made_backbone

from detection.config import BoxRegression, Config, Data, Finetune, Network, Svm
from detection.data.records import Dataset, ImageRecord
from detection.data.windows import find_windows
from detection.features.extractor import SPPExtractor, WindowFeatures
from detection.features.rcnn import RCNNExtractor
from detection.features.scales import SCALES
from detection.inference.layers import LayerFeatures
from detection.learners.bbox_regression import BoxRegressor
from detection.networks.build import build_backbone
from detection.networks.head import Head
from detection.networks.weights import Weights, random_weights, tensor_digest
from detection.run import Run, silent
from detection.training import finetune_stage, linear_stages, stages
from detection.training.window_bank import BankEntry, RowFile
from proposals.disk import save_array

CLASSES = ("cat", "dog")
LENGTH = 50
GRID = 3
PICTURES = 6
LAYERS = ("pool5", "fc6", "fc7")
CONFIG = Config(
    workers=1,
    device="cpu",
    scales=1,
    finetune=Finetune(
        hidden=4,
        steps=3,
        batch=8,
        pictures=2,
        conv_steps=3,
        conv_pictures=2,
        checkpoint_every=1,
        held_back=0.2,
    ),
    svm=Svm(layers=LAYERS, refit_every=5, checkpoint_every=2),
)


class Killed(Exception):
    """Ends a stage as a kill would."""


def dies_before(item_number):
    def progress(items, what, total):
        for number, item in enumerate(items):
            if number == item_number:
                raise Killed
            yield item

    return progress


def cells_of(windows):
    """Windows whose corners fall on the same cells of three pixels share a feature."""
    return np.floor(np.asarray(windows, np.float64) / GRID)


class FakeExtractor:
    """A window's feature: 50 numbers made from its cells."""

    length = LENGTH

    def __init__(self, **facts):
        self.facts = {"features": "fake", **facts}

    def features(self, image, windows):
        assert image.dtype == np.uint8
        unique, index = np.unique(cells_of(windows), axis=0, return_inverse=True)
        return WindowFeatures(torch.from_numpy(feature_of(unique)), index.reshape(-1))


def feature_of(cells):
    phase = cells @ np.array([[1.0, 2, 3, 5]]).T
    return np.abs(np.sin(phase * np.arange(1, LENGTH + 1) / 7)).astype(np.float32) * 3


def made_picture(folder, number, rng):
    path = folder / f"{number:06}.png"
    Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(path)
    boxes = np.array([[2, 2, 20, 20], [18, 16, 38, 36]], np.float32)
    record = ImageRecord(f"{number:06}", path, (40, 40), boxes, np.array([0, 1]), np.zeros(2, bool))
    first = rng.integers(0, 20, (12, 2))
    windows = np.hstack([first, first + rng.integers(5, 20, (12, 2))]).astype(np.float32)
    moved = boxes + rng.integers(-2, 3, boxes.shape)
    regression = np.concatenate([boxes, moved]).astype(np.float32)
    rows = feature_of(cells_of(np.concatenate([regression, windows])))
    save_array(folder / f"{number}.npy", rows.astype(np.float16))
    entry = BankEntry(
        RowFile.open(folder / f"{number}.npy"),
        2,
        regression,
        np.concatenate([boxes, boxes]),
        np.array([0, 1, 0, 1]),
    )
    return record, windows, entry


def made_world(folder):
    """Pictures with their windows, bank rows and features; and runs on them."""
    rng = np.random.default_rng(0)
    pictures = [made_picture(folder, number, rng) for number in range(PICTURES)]
    by_path = {record.path: windows for record, windows, _ in pictures}
    head = Head(LENGTH, len(CLASSES), 6)
    head.initialise(torch.Generator().manual_seed(0), 4.0)

    def made_run(name="one", progress=silent, **changes):
        changed = replace(CONFIG, **{"run": str(folder / name), **changes})
        return Run(changed, progress=progress)

    return SimpleNamespace(
        data=Dataset(tuple(record for record, _, _ in pictures), CLASSES),
        windows=SimpleNamespace(load=by_path.__getitem__, method=SimpleNamespace(key="windows")),
        entries=[entry for _, _, entry in pictures],
        bank=SimpleNamespace(key="bank"),
        features=LayerFeatures(head, {"pool5": 1.5, "fc6": 2.0, "fc7": 3.0}),
        run=made_run,
    )


@pytest.fixture
def world(tmp_path):
    return made_world(tmp_path)


@pytest.fixture
def weights(monkeypatch):
    """Weights of a tiny network, at one small scale."""
    monkeypatch.setitem(SCALES, 1, (32,))
    state = made_backbone().trunk.state_dict()
    return Weights(state, "made here", tensor_digest(state))


def finetuned(world, run, weights, data=None, windows=None):
    backbone, found = all_finetuned(world, run, weights, data, windows)
    return backbone, found.head, found.key


def all_finetuned(world, run, weights, data=None, windows=None):
    """The trunk, and all that the stage gives."""
    backbone = made_backbone()
    backbone.load_tensors({name: value.clone() for name, value in weights.state.items()})
    backbone.digest = weights.digest
    found = finetune_stage.finetune_stage(
        run, data or world.data, windows or world.windows, weights, backbone
    )
    return backbone, found


def svms_of(world, run, head_key="head", extractor=None):
    """The bytes of the SVMs of every layer."""
    found = linear_stages.svm_stage(
        run,
        world.data,
        world.windows,
        world.entries,
        extractor or FakeExtractor(),
        world.features,
        head_key,
    )
    assert tuple(found) == run.config.svm.layers
    return {
        layer: svms.coef_.tobytes() + svms.intercept_.tobytes() for layer, svms in found.items()
    }


def artefacts(run, stage):
    return sorted(path.name for path in (run.folder / "stages").glob(f"{stage}-*.safetensors"))


def artefact_bytes(run, stage):
    return {name: (run.folder / "stages" / name).read_bytes() for name in artefacts(run, stage)}


def events_of(run, kind):
    lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def same_state(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("count", "share", "held"), [(10, 0.1, 1), (40, 0.25, 10), (7, 0, 0)])
def test_held_back_pictures(count, share, held):
    train, back = finetune_stage.split_held_back(count, share, 3)
    assert len(back) == held
    assert sorted(train + back) == list(range(count))
    assert train == sorted(train)
    assert back == sorted(back)
    assert finetune_stage.split_held_back(count, share, 3) == (train, back)


def test_held_back_pictures_are_drawn_by_seed():
    drawn = {tuple(finetune_stage.split_held_back(100, 0.1, seed)[1]) for seed in range(5)}
    assert len(drawn) == 5


def test_mean_norm_factor():
    assert stages.mean_norm_factor(np.array([10, 30], np.float32)) == 1.0
    assert stages.mean_norm_factor(np.array([5], np.float32)) == 4.0
    with pytest.raises(ValueError, match="all features are 0"):
        stages.mean_norm_factor(np.zeros(3, np.float32))


@pytest.mark.parametrize("layers", [("fc7",), ("fc6", "pool5"), LAYERS])
def test_features_have_mean_norm_20(world, layers):
    # More pictures than are read at once, and with other norms at the end than at the beginning.
    entries = [world.entries[number % 2] for number in range(300)] + world.entries
    head = world.features.head
    features = stages.layer_features(world.run(svm=Svm(layers=layers)), entries, head)
    # Box regression always reads pool5.
    assert set(features.factors) == {"pool5", *layers}
    assert features.head is head
    rows = np.concatenate([entry.random_rows.read() for entry in entries]).astype(np.float32)
    assert len(rows) == 12 * len(entries)
    for layer, found in features(torch.from_numpy(rows), [*features.factors]).items():
        norms = np.linalg.norm(found.astype(np.float64), axis=1)
        assert norms.mean() == pytest.approx(20, rel=1e-5), layer
        assert norms.std() > 0.1


def test_features_without_a_head(world):
    features = stages.layer_features(world.run(svm=Svm(layers=("pool5",))), world.entries, None)
    assert features.head is None
    rows = np.concatenate([entry.random_rows.read() for entry in world.entries])
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    assert features.factors == {"pool5": pytest.approx(20 / norms.mean(), rel=1e-5)}


def test_features_that_are_all_0(world):
    torch.nn.init.zeros_(world.features.head.fc6.weight)
    with pytest.raises(ValueError, match="all features are 0, so they cannot be scaled"):
        stages.layer_features(world.run(), world.entries, world.features.head)


def test_keys_of_the_training_data(world):
    key = stages.data_key(world.bank, world.data)
    fewer = Dataset(world.data.records[1:], CLASSES)
    backward = Dataset(world.data.records[::-1], CLASSES)
    first = replace(world.data.records[0], labels=np.array([1, 1]))
    relabelled = Dataset((first, *world.data.records[1:]), CLASSES)
    others = {stages.data_key(SimpleNamespace(key="other"), world.data)}
    others |= {stages.data_key(world.bank, data) for data in (fewer, backward, relabelled)}
    assert len(others | {key}) == 5


def test_windows_are_made_once(world, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    run = world.run(data=Data(cache=str(tmp_path / "cache")))
    records = world.data.records
    find_windows(run, "train", records[:2])
    store = find_windows(run, "train", records)
    assert store.method == run.config.proposals.selective_search
    found = store.load(records[4].path)
    assert found.shape[1:] == (4,)
    assert len(found)
    find_windows(run, "train", records)
    said = [line for line in caplog.messages if line.startswith("windows: ")]
    counts = ((0, 2), (2, 6), (6, 6))
    assert said == [f"windows: {done} of {n} pictures were done before" for done, n in counts]
    # A call with nothing to do is no stage.
    made = [event["stage"] for event in events_of(run, "stage")]
    assert made == ["windows of train by selective_search"] * 2


def test_fine_tuning_is_reused(world, weights, caplog):
    caplog.set_level(logging.INFO)
    run = world.run()
    backbone, head, key = finetuned(world, run, weights)
    assert "reused" not in caplog.text
    assert not head.training
    assert [path.name for path in (run.folder / "stages").iterdir()] == artefacts(run, "head")
    assert finetune_stage.head_path(run, key) == run.artefact("head", key)
    # The paper leaves the convolutions alone.
    assert same_state(backbone.trunk, made_backbone().trunk)
    assert backbone.digest == weights.digest
    again, same_head, same_key = finetuned(world, world.run(workers=2), weights)
    assert same_key == key
    assert f"fine-tuning: reused {run.artefact('head', key)}" in caplog.text
    assert same_state(same_head, head)
    assert same_state(again.trunk, backbone.trunk)


def test_convolutions_are_fine_tuned_and_read_back(world, weights):
    settings = replace(CONFIG.finetune, layers="conv4", conv_rate=1.0, learning_rate=0.01)
    run = world.run(finetune=settings)
    backbone, head, _ = finetuned(world, run, weights)
    start, trained = made_backbone().trunk.state_dict(), backbone.trunk.state_dict()
    changed = {name for name in start if not torch.equal(start[name], trained[name])}
    assert changed == {f"{layer}.{kind}" for layer in (7, 9) for kind in ("weight", "bias")}
    # The features' keys follow what was trained.
    assert backbone.digest == tensor_digest(trained) != weights.digest
    assert stages.make_extractor(run, backbone).facts["weights"] == backbone.digest
    again, same_head, _ = finetuned(world, run, weights)
    assert same_state(again.trunk, backbone.trunk)
    assert again.digest == backbone.digest
    assert same_state(same_head, head)


def test_runs_share_the_first_phase(world, weights, caplog):
    caplog.set_level(logging.INFO)
    _, head, first = finetuned(world, world.run(), weights)
    settings = replace(CONFIG.finetune, layers="conv4", conv_rate=0.5, conv_steps=4)
    _, other, second = finetuned(world, world.run(finetune=settings), weights)
    assert f"fine-tuning: reused {world.run().artefact('head', first)}" in caplog.text
    assert first != second
    assert not same_state(head, other)
    assert len(artefacts(world.run(), "head")) == 2
    # Without steps that change anything, the head of the second phase is the first one's.
    settings = replace(CONFIG.finetune, layers="conv4", learning_rate=0)
    trunk, same, _ = finetuned(world, world.run("still", finetune=settings), weights)
    _, start, _ = finetuned(
        world, world.run("still", finetune=replace(CONFIG.finetune, learning_rate=0)), weights
    )
    assert same_state(trunk.trunk, made_backbone().trunk)
    torch.testing.assert_close(same.fc6.bias, start.fc6.bias, rtol=1e-5, atol=1e-6)
    assert torch.equal(same.fc6.weight, start.fc6.weight)


def test_boxes_are_fine_tuned_in_the_second_phase_and_read_back(world, weights, caplog):
    caplog.set_level(logging.INFO)
    settings = replace(CONFIG.finetune, layers="conv4", learning_rate=0.01)
    plain = world.run(finetune=settings)
    finetuned(world, plain, weights)
    run = world.run(finetune=replace(settings, box_loss=1.0))
    _, made = all_finetuned(world, run, weights)
    # The fc layers' own phase knows nothing of boxes, so it is the same one.
    assert caplog.text.count("fine-tuning: reused") == 1
    assert made.boxes.weight.shape == (4 * len(CLASSES), CONFIG.finetune.hidden)
    assert made.boxes.weight.abs().max() > 0
    _, again = all_finetuned(world, run, weights)
    assert again.key == made.key
    assert same_state(again.boxes, made.boxes)
    assert same_state(again.head, made.head)


def test_keys_of_fine_tuning(world, weights):
    changes = [
        {"seed": 1},
        {"precision": "bfloat16"},
        {"data": Data(difficult=True)},
        {"network": replace(CONFIG.network, scale_rule="released")},
        {"finetune": replace(CONFIG.finetune, steps=2)},
        {"finetune": replace(CONFIG.finetune, learning_rate=0.02)},
        {"finetune": replace(CONFIG.finetune, hidden=5)},
        {"finetune": replace(CONFIG.finetune, pictures=4)},
        {"finetune": replace(CONFIG.finetune, layers="conv5")},
        {"finetune": replace(CONFIG.finetune, layers="conv5", conv_steps=2)},
        {"finetune": replace(CONFIG.finetune, layers="conv5", conv_pictures=4)},
    ]
    keys = [finetuned(world, world.run(), weights)[2]]
    keys += [finetuned(world, world.run(**change), weights)[2] for change in changes]
    fewer = Dataset(world.data.records[1:], CLASSES)
    keys.append(finetuned(world, world.run(), weights, data=fewer)[2])
    others = SimpleNamespace(load=world.windows.load, method=SimpleNamespace(key="other"))
    keys.append(finetuned(world, world.run(), weights, windows=others)[2])
    keys.append(finetuned(world, world.run(), replace(weights, digest="other"))[2])
    assert len(set(keys)) == len(keys)
    assert len(artefacts(world.run(), "head")) == len(keys)
    same = {"finetune": replace(CONFIG.finetune, checkpoint_every=2, conv_steps=9), "workers": 7}
    same["svm"] = Svm(layers=("pool5", "fc6"))
    assert finetuned(world, world.run(**same), weights)[2] == keys[0]


def test_fine_tuning_from_imagenet(world, weights):
    classifier = {
        "fc6.weight": torch.zeros(4, 36 * 8),
        "fc6.bias": torch.ones(4),
        "fc7.weight": torch.eye(4),
        "fc7.bias": torch.zeros(4),
    }
    settings = replace(CONFIG.finetune, learning_rate=0)
    chance = finetuned(world, world.run(finetune=settings), weights)
    imagenet = replace(weights, classifier=classifier)
    found = finetuned(world, world.run(finetune=settings), imagenet)
    assert found[2] != chance[2]
    assert torch.equal(found[1].fc7.weight, torch.eye(4))
    assert found[1].input_scale == 1
    assert chance[1].input_scale != 1


@pytest.mark.parametrize("layers", ["fc", "conv4"])
def test_killed_fine_tuning_ends_with_the_same_bytes(world, weights, caplog, layers):
    # With one step in the first phase it is the second one that dies.
    settings = replace(CONFIG.finetune, layers=layers, steps=3 if layers == "fc" else 1)

    def run(name, progress=silent):
        return world.run(name, progress, finetune=settings)

    _, _, key = finetuned(world, run("one"), weights)
    with pytest.raises(Killed):
        finetuned(world, run("two", dies_before(2)), weights)
    assert len(artefacts(run("two"), "head")) == (layers != "fc")
    caplog.set_level(logging.INFO)
    finetuned(world, run("two"), weights)
    assert "fine-tuning goes on from step 2" in caplog.text
    one, two = (run(name).artefact("head", key).read_bytes() for name in ("one", "two"))
    assert one == two
    assert not (run("two").folder / "stages/fine-tuning.checkpoint").exists()


def test_the_learning_curve_is_recorded(world, weights):
    finetuned(world, world.run(), weights)
    (event,) = events_of(world.run(), "fine-tuning")
    assert event["step"] == 3
    assert event["train_loss"] > 0
    assert event["held_back_loss"] > 0
    run = world.run("no curve", finetune=replace(CONFIG.finetune, held_back=0))
    finetuned(world, run, weights)
    (event,) = events_of(run, "fine-tuning")
    assert not [name for name in event if name.startswith("held_back")]


@pytest.mark.parametrize("features", ["spp", "rcnn"])
def test_pool5_alone_trains_no_head(world, weights, features):
    run = world.run(features=features, svm=Svm(layers=("pool5",)))
    backbone, head, key = finetuned(world, run, weights)
    assert head is None
    assert not run.folder.exists()
    assert same_state(backbone.trunk, made_backbone().trunk)
    assert finetuned(world, run, weights)[2] == key
    assert finetuned(world, run, replace(weights, digest="other"))[2] != key


def test_pool5_alone_with_convolutions_trains_them(world, weights):
    settings = replace(CONFIG.finetune, layers="conv5")
    run = world.run(svm=Svm(layers=("pool5",)), finetune=settings)
    backbone, head, _ = finetuned(world, run, weights)
    assert head is not None
    assert backbone.digest != weights.digest


@pytest.mark.parametrize("change", [{"svm": Svm(layers=("pool5", "fc7"))}, {"svm": Svm()}, {}])
def test_rcnn_with_what_it_cannot_train_is_refused(world, weights, change):
    change = change or {
        "svm": Svm(layers=("pool5",)),
        "finetune": replace(CONFIG.finetune, layers="conv5"),
    }
    run = world.run(features="rcnn", **change)
    message = r"with --features rcnn only --svm.layers \[pool5\] and --finetune.layers fc can be"
    with pytest.raises(ValueError, match=message):
        finetuned(world, run, weights)
    assert not run.folder.exists()


def test_the_extractor_that_the_settings_ask_for(world, weights):
    backbone = made_backbone()
    extractor = stages.make_extractor(world.run(precision="bfloat16"), backbone)
    assert isinstance(extractor, SPPExtractor)
    assert extractor.scales == (32,)
    assert extractor.scale_rule == "paper"
    assert extractor.precision == "bfloat16"
    rcnn = stages.make_extractor(world.run(features="rcnn"), backbone)
    assert isinstance(rcnn, RCNNExtractor)
    assert rcnn.backbone is backbone
    assert rcnn.precision == "float32"


def test_the_bank_is_filled_once(world, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    run = world.run(data=Data(cache=str(tmp_path / "cache")))
    extractor = SPPExtractor(made_backbone(), (32,))
    first = Dataset(world.data.records[:2], CLASSES)
    stages.bank_stage(run, first, world.windows, extractor)
    bank = stages.bank_stage(run, world.data, world.windows, extractor)
    assert all(bank.has(record) for record in world.data.records)
    assert bank.key == stages.bank_stage(run, world.data, world.windows, extractor).key
    said = [line for line in caplog.messages if line.startswith("training windows: ")]
    counts = ((0, 2), (2, 6), (6, 6))
    assert said == [f"training windows: {n} of {of} pictures were done before" for n, of in counts]
    assert [event["stage"] for event in events_of(run, "stage")] == ["training windows"] * 2
    entry = bank.load(world.data.records[0])
    assert entry.objects == 2
    assert entry.rows.length == extractor.length


def test_the_bank_keeps_objects_alone_where_boxes_are_learned_on_fc7(world, tmp_path):
    cache, extractor = Data(cache=str(tmp_path / "cache")), SPPExtractor(made_backbone(), (32,))
    settings = replace(CONFIG.finetune, layers="conv4", box_loss=1.0)
    counts = []
    for layer in ("pool5", "fc7"):
        run = world.run(data=cache, finetune=settings, bbox=BoxRegression(layer=layer))
        bank = stages.bank_stage(run, world.data, world.windows, extractor)
        entries = [bank.load(record) for record in world.data.records]
        counts.append([sum(len(e.windows) for e in entries), sum(e.objects for e in entries)])
    (samples, objects), fewer = counts
    assert samples > objects
    assert fewer == [objects, objects]


def test_svms_are_reused(world, caplog):
    caplog.set_level(logging.INFO)
    found = svms_of(world, world.run())
    assert "reused" not in caplog.text
    assert svms_of(world, world.run(workers=2)) == found
    for layer in LAYERS:
        assert f"SVMs on {layer}: reused" in caplog.text
    every = replace(CONFIG.svm, checkpoint_every=1)
    assert svms_of(world, world.run(svm=every)) == found
    assert len(artefacts(world.run(), "svms")) == len(LAYERS)
    assert len(events_of(world.run(), "stage")) == 1


def test_only_the_missing_layers_are_trained(world, caplog):
    """And trained one after the other or all at once, in any order, they are the same bytes."""
    together = svms_of(world, world.run("one"))
    caplog.set_level(logging.INFO)
    for layers in (("fc7",), ("fc7", "pool5"), ("fc6", "pool5"), ("fc6", "fc7", "pool5")):
        caplog.clear()
        before = len(artefacts(world.run("two"), "svms"))
        run = world.run("two", svm=replace(CONFIG.svm, layers=layers))
        found = svms_of(world, run)
        assert found == {layer: together[layer] for layer in layers}
        made = len(artefacts(run, "svms")) - before
        reused = [line for line in caplog.messages if ": reused" in line]
        assert len(reused) == len(layers) - made
        assert made == (0 if len(layers) == 3 else 1)
    assert artefact_bytes(world.run("one"), "svms") == artefact_bytes(world.run("two"), "svms")
    assert [event["stage"] for event in events_of(run, "stage")] == ["SVMs"] * 3
    trained = groupby(event["layer"] for event in events_of(run, "svm"))
    assert [layer for layer, _ in trained] == ["fc7", "pool5", "fc6"]
    reused = [event["stage"] for event in events_of(run, "reused")]
    assert reused == [f"SVMs on {layer}" for layer in ("fc7", "pool5", "fc6", "fc7", "pool5")]


def test_svms_without_a_head(world):
    world.features = LayerFeatures(None, {"pool5": 1.5})
    run = world.run(svm=replace(CONFIG.svm, layers=("pool5",)))
    assert len(svms_of(world, run)["pool5"]) == 4 * 2 * (LENGTH + 1)


def test_keys_of_svms(world):
    one = replace(CONFIG.svm, layers=("fc6",))
    changes = [
        *({"svm": replace(one, **change)} for change in ({}, {"C": 0.1}, {"negative_iou": 0.5})),
        *({"svm": replace(one, **change)} for change in ({"refit_every": 50}, {"bias": 1.0})),
        {"svm": one, "seed": 1},
        {"svm": one, "data": Data(difficult=True)},
    ]
    for change in changes:
        svms_of(world, world.run(**change))
    run = world.run(svm=one)
    svms_of(world, run, "other head")
    svms_of(world, run, extractor=FakeExtractor(scales=[688]))
    world.windows.method.key = "other windows"
    svms_of(world, run)
    world.data = Dataset(world.data.records[1:], CLASSES)
    world.entries = world.entries[1:]
    svms_of(world, run)
    assert len(artefacts(run, "svms")) == len(changes) + 4
    svms_of(world, world.run(svm=one, bbox=BoxRegression(ridge=1.0), workers=5))
    assert len(artefacts(run, "svms")) == len(changes) + 4


@pytest.mark.parametrize("kills", [(1,), (2,), (3, 1), (5, 0), (4, 1, 1)])
def test_killed_svms_end_with_the_same_bytes(world, caplog, kills):
    undisturbed = svms_of(world, world.run("one"))
    for picture in kills:  # counted from where the call begins
        with pytest.raises(Killed):
            svms_of(world, world.run("two", dies_before(picture)))
    caplog.set_level(logging.INFO)
    assert svms_of(world, world.run("two")) == undisturbed
    # Checkpoints are written where a block ends, here after 2 and 4 pictures.
    assert ("SVMs go on from picture" in caplog.text) == (kills != (1,))
    assert not (world.run("two").folder / "stages/svms.checkpoint").exists()
    assert artefact_bytes(world.run("one"), "svms") == artefact_bytes(world.run("two"), "svms")


def test_box_regression_reads_pooled_features_as_they_are(world, caplog):
    caplog.set_level(logging.INFO)
    run, factor = world.run(bbox=BoxRegression(ridge=100.0)), 2.5
    regressor = linear_stages.bbox_stage(run, world.data, world.bank, world.entries, factor)
    rows, windows, targets, classes = (
        np.concatenate([part(entry) for entry in world.entries])
        for part in (
            lambda entry: entry.regression_rows.read().astype(np.float32),
            lambda entry: entry.windows,
            lambda entry: entry.targets,
            lambda entry: entry.classes,
        )
    )
    expected = BoxRegressor(100.0).fit(rows * factor, windows, targets, classes)
    np.testing.assert_allclose(
        regressor.predict(rows, windows), expected.predict(rows * factor, windows), atol=0.01
    )
    unscaled = BoxRegressor(100.0).fit(rows, windows, targets, classes)
    assert np.abs(regressor.predict(rows, windows) - unscaled.predict(rows, windows)).max() > 0.1
    assert "box regression: reused" not in caplog.text
    again = linear_stages.bbox_stage(run, world.data, world.bank, world.entries, factor)
    assert "box regression: reused" in caplog.text
    np.testing.assert_array_equal(again.weights_, regressor.weights_)


def test_keys_of_box_regression(world):
    other = SimpleNamespace(key="other")
    for ridge, bank in ((1.0, world.bank), (2.0, world.bank), (1.0, other)):
        run = world.run(bbox=BoxRegression(ridge=ridge))
        linear_stages.bbox_stage(run, world.data, bank, world.entries, 2.0)
    linear_stages.bbox_stage(
        world.run(bbox=BoxRegression(ridge=1.0), seed=5, workers=3, svm=Svm(C=9)),
        world.data,
        world.bank,
        world.entries,
        2.0,
    )
    assert len(artefacts(world.run(), "box-regression")) == 3


def test_tensors_are_written_as_they_are(tmp_path):
    arrays = {"b": np.arange(6.0).reshape(2, 3).T, "a": np.array([True, False])}
    for name in ("one", "two"):
        stages.write_tensors(tmp_path / name, arrays)
    found = load_file(tmp_path / "one")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_wide_maps_are_reduced_once(world, tmp_path):
    weights = random_weights("alexnet")
    whole = stages.backbone_stage(world.run(), world.data, weights)
    assert (whole.channels, whole.reduction, whole.digest) == (256, None, weights.digest)
    same = stages.backbone_stage(world.run(network=Network(channels=256)), world.data, weights)
    assert same.reduction is None
    run = world.run(network=Network(channels=8))
    first, again = (stages.backbone_stage(run, world.data, weights) for _ in range(2))
    assert (first.channels, first.pooled_length) == (8, 400)
    assert first.digest == again.digest != weights.digest
    assert len(artefacts(run, "reduction")) == 1
    assert [event["stage"] for event in events_of(run, "reused")] == ["reduction"]
    # It comes out of saved tensors as it went in.
    loaded = build_backbone("alexnet", Weights(first.tensors(), "saved", first.digest))
    picture = torch.randn(1, 3, 64, 80, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loaded(picture), first(picture))
    with pytest.raises(
        ValueError, match="cannot make 300 channels, two for each direction, of 256"
    ):
        stages.backbone_stage(world.run(network=Network(channels=300)), world.data, weights)
