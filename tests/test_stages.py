"""The stages of training: their keys, what they reuse, and that a kill changes no byte."""

import json
import logging
from dataclasses import replace
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from detection.config import BoxRegression, Config, Data, Finetune, Svm
from detection.data.records import Dataset, ImageRecord
from detection.data.windows import find_windows
from detection.features.extractor import WindowFeatures
from detection.inference.detector import FeatureHead
from detection.learners.bbox_regression import BoxRegressor
from detection.networks.head import Head
from detection.run import Run, silent
from detection.training import linear_stages, stages
from detection.training.hard_negatives import HardNegativeMiner
from detection.training.window_bank import BankEntry, RowFile
from proposals.disk import save_array

CLASSES = ("cat", "dog")
LENGTH = 50
PICTURES = 5
CONFIG = Config(
    workers=1,
    device="cpu",
    finetune=Finetune(hidden=4, steps=3, batch=8, checkpoint_every=1, held_back=0.2),
    svm=Svm(refit_every=5, checkpoint_every=2),
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


class FakeExtractor:
    """A window's feature: 50 numbers made from its corners, by class of place."""

    def maps(self, image):
        return image.shape

    def pool(self, maps, windows):
        unique, index = np.unique(windows, axis=0, return_inverse=True)
        return WindowFeatures(torch.from_numpy(feature_of(unique)), index.reshape(-1))


def feature_of(windows):
    phase = windows.astype(np.float64) @ np.array([[1.0, 2, 3, 5]]).T
    return np.abs(np.sin(phase * np.arange(1, LENGTH + 1) / 7)).astype(np.float32) * 3


def made_picture(folder, number, rng):
    path = folder / f"{number:06}.png"
    Image.fromarray(np.full((40, 40, 3), number, np.uint8)).save(path)
    boxes = np.array([[2, 2, 20, 20], [18, 16, 38, 36]], np.float32)
    record = ImageRecord(f"{number:06}", path, (40, 40), boxes, np.array([0, 1]), np.zeros(2, bool))
    first = rng.integers(0, 20, (12, 2))
    windows = np.hstack([first, first + rng.integers(5, 20, (12, 2))]).astype(np.float32)
    regression = np.concatenate([boxes, boxes + 1]).astype(np.float32)
    rows = np.concatenate([boxes, windows[:4], regression, windows])
    save_array(folder / f"{number}.npy", feature_of(rows).astype(np.float16))
    entry = BankEntry(
        RowFile.open(folder / f"{number}.npy"),
        np.array([0, 1, 2, 2, 2, 2]),
        2,
        regression,
        np.concatenate([boxes, boxes]),
        np.array([0, 1, 0, 1]),
    )
    return record, windows, entry


@pytest.fixture
def world(tmp_path):
    """Pictures with their windows, bank rows and features; and runs on them."""
    rng = np.random.default_rng(0)
    pictures = [made_picture(tmp_path, number, rng) for number in range(PICTURES)]
    by_path = {record.path: windows for record, windows, _ in pictures}
    head = Head(LENGTH, len(CLASSES), 6)
    head.initialise(torch.Generator().manual_seed(0), 4.0)

    def made_run(name="one", progress=silent, **changes):
        return Run(replace(CONFIG, run=str(tmp_path / name), **changes), progress=progress)

    return SimpleNamespace(
        data=Dataset(tuple(record for record, _, _ in pictures), CLASSES),
        windows=SimpleNamespace(load=by_path.__getitem__),
        entries=[entry for _, _, entry in pictures],
        bank=SimpleNamespace(key="bank", name_of=lambda record: record.image_id),
        features=FeatureHead(head, 3.0),
        run=made_run,
    )


def finetuned(world, run, bank=None, classifier=None):
    return stages.finetune_stage(run, world.data, bank or world.bank, world.entries, classifier)


def svms_of(world, run, head_key="head"):
    svms = linear_stages.svm_stage(
        run, world.data, world.windows, world.entries, FakeExtractor(), world.features, head_key
    )
    return svms.coef_.tobytes() + svms.intercept_.tobytes()


def artefacts(run, stage):
    return sorted(path.name for path in (run.folder / "stages").glob(f"{stage}-*.safetensors"))


@pytest.mark.parametrize(("count", "share", "held"), [(10, 0.1, 1), (40, 0.25, 10), (7, 0, 0)])
def test_held_back_pictures(count, share, held):
    train, back = stages.split_held_back(count, share, 3)
    assert len(back) == held
    assert sorted(train + back) == list(range(count))
    assert train == sorted(train)
    assert back == sorted(back)
    assert stages.split_held_back(count, share, 3) == (train, back)


def test_held_back_pictures_are_drawn_by_seed():
    drawn = {tuple(stages.split_held_back(100, 0.1, seed)[1]) for seed in range(5)}
    assert len(drawn) == 5


def test_mean_norm_scale():
    assert stages.mean_norm_scale(np.array([10, 30], np.float32)) == 1.0
    assert stages.mean_norm_scale(np.array([5], np.float32)) == 4.0
    with pytest.raises(ValueError, match="all features are 0"):
        stages.mean_norm_scale(np.zeros(3, np.float32))


def test_random_rows_of_many_pictures(world):
    entries = [world.entries[number % PICTURES] for number in range(601)]
    chunks = list(stages.random_rows(entries))
    assert [len(chunk) for chunk in chunks] == [250 * 12, 250 * 12, 101 * 12]
    expected = np.concatenate([entry.random_rows.read() for entry in entries])
    np.testing.assert_array_equal(torch.cat(chunks).numpy(), expected.astype(np.float32))


def test_features_have_mean_norm_20(world):
    features = stages.feature_head(world.run(), world.entries, world.features.head)
    rows = torch.cat(list(stages.random_rows(world.entries)))
    assert np.linalg.norm(features(rows), axis=1).mean() == pytest.approx(20, rel=1e-5)


def test_keys_of_an_extractor():
    def key(**changes):
        backbone = {"name": "alexnet", "digest": "a", "device": torch.device("cpu")}
        parts = {"scales": (480, 576), "scale_rule": "paper", "precision": "float32"}
        backbone |= {name: value for name, value in changes.items() if name in backbone}
        parts |= {name: value for name, value in changes.items() if name in parts}
        return stages.extractor_key(SimpleNamespace(backbone=SimpleNamespace(**backbone), **parts))

    changes = {
        "name": "zf5",
        "digest": "b",
        "device": torch.device("cuda"),
        "scales": (480,),
        "scale_rule": "released",
        "precision": "bfloat16",
    }
    keys = {key(), *(key(**{name: value}) for name, value in changes.items())}
    assert len(keys) == 1 + len(changes)
    assert key(device=torch.device("cuda", 0)) == key(device=torch.device("cuda", 1))


def test_keys_of_the_training_data(world):
    key = stages.data_key(world.bank, world.data)
    bank = SimpleNamespace(key="other", name_of=world.bank.name_of)
    fewer = Dataset(world.data.records[1:], CLASSES)
    backward = Dataset(world.data.records[::-1], CLASSES)
    others = {stages.data_key(bank, world.data)}
    others |= {stages.data_key(world.bank, data) for data in (fewer, backward)}
    assert len(others | {key}) == 4


def test_windows_are_made_once(world, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    run = world.run(data=Data(cache=str(tmp_path / "cache")))
    records = world.data.records
    find_windows(run, "train", records[:2])
    store = find_windows(run, "train", records)
    assert store.method == run.config.proposals
    # One colour all over: the whole picture is the only window.
    assert store.load(records[4].path).tolist() == [[0, 0, 40, 40]]
    find_windows(run, "train", records)
    said = [line for line in caplog.messages if line.startswith("windows: ")]
    counts = ((0, 2), (2, 5), (5, 5))
    assert said == [f"windows: {done} of {n} pictures were done before" for done, n in counts]
    # A call with nothing to do is no stage.
    assert stages_of(run) == ["windows of train"] * 2


def stages_of(run):
    lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    return [event["stage"] for event in map(json.loads, lines) if event["event"] == "stage"]


def test_fine_tuning_is_reused(world, caplog):
    caplog.set_level(logging.INFO)
    run = world.run()
    head, key = finetuned(world, run)
    assert "reused" not in caplog.text
    assert not head.training
    assert [path.name for path in (run.folder / "stages").iterdir()] == artefacts(run, "head")
    again, same_key = finetuned(world, world.run(workers=2))
    assert same_key == key
    assert f"fine-tuning: reused {run.artefact('head', key)}" in caplog.text
    for name, value in head.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_keys_of_fine_tuning(world):
    changes = [
        {"seed": 1},
        {"precision": "bfloat16"},
        {"finetune": replace(CONFIG.finetune, steps=2)},
        {"finetune": replace(CONFIG.finetune, learning_rate=0.02)},
        {"finetune": replace(CONFIG.finetune, hidden=5)},
    ]
    keys = [finetuned(world, world.run())[1]]
    keys += [finetuned(world, world.run(**change))[1] for change in changes]
    bank = SimpleNamespace(key="other", name_of=world.bank.name_of)
    keys.append(finetuned(world, world.run(), bank)[1])
    assert len(set(keys)) == len(keys)
    assert len(artefacts(world.run(), "head")) == len(keys)
    same = {"finetune": replace(CONFIG.finetune, checkpoint_every=2), "workers": 7}
    assert finetuned(world, world.run(**same))[1] == keys[0]


def test_fine_tuning_from_imagenet(world):
    classifier = {
        "fc6.weight": torch.zeros(4, 36),
        "fc6.bias": torch.ones(4),
        "fc7.weight": torch.eye(4),
        "fc7.bias": torch.zeros(4),
    }
    settings = replace(CONFIG.finetune, learning_rate=0)
    chance = finetuned(world, world.run(finetune=settings))
    found = finetuned(world, world.run(finetune=settings), classifier=classifier)
    assert found[1] != chance[1]
    assert torch.equal(found[0].fc7.weight, torch.eye(4))
    assert found[0].input_scale == 1


def test_killed_fine_tuning_ends_with_the_same_bytes(world, caplog):
    undisturbed, other = world.run("one"), world.run("two")
    _, key = finetuned(world, undisturbed)
    with pytest.raises(Killed):
        finetuned(world, world.run("two", dies_before(2)))
    assert not artefacts(other, "head")
    caplog.set_level(logging.INFO)
    finetuned(world, other)
    assert "fine-tuning goes on from step 2" in caplog.text
    one, two = (run.artefact("head", key).read_bytes() for run in (undisturbed, other))
    assert one == two
    assert not (other.folder / "stages/fine-tuning.checkpoint").exists()


def test_svms_are_reused(world, caplog):
    caplog.set_level(logging.INFO)
    found = svms_of(world, world.run())
    assert "reused" not in caplog.text
    assert svms_of(world, world.run(workers=2)) == found
    assert "SVMs: reused" in caplog.text
    every = replace(CONFIG.svm, checkpoint_every=1)
    assert svms_of(world, world.run(svm=every)) == found
    assert len(artefacts(world.run(), "svms")) == 1


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_workers_change_no_byte_of_the_svms(world, monkeypatch, precision):
    """With threads in place of processes, which would import everything first."""
    monkeypatch.setattr(
        linear_stages, "parallel_config", lambda **_: joblib.parallel_config(backend="threading")
    )
    world.features = FeatureHead(world.features.head, 3.0, precision)
    state = {name: value.numpy() for name, value in world.features.head.state_dict().items()}
    found = []
    for workers in (1, 2):
        run = world.run(f"with {workers}", workers=workers, precision=precision)
        stages.write_tensors(run.artefact("head", "key"), state)
        found.append(svms_of(world, run, "key"))
    assert found[0] == found[1]


def test_keys_of_svms(world):
    run = world.run()
    for change in ({}, {"C": 0.1}, {"negative_iou": 0.5}, {"refit_every": 50}):
        svms_of(world, world.run(svm=replace(CONFIG.svm, **change)))
    svms_of(world, run, "other head")
    assert len(artefacts(run, "svms")) == 5


@pytest.mark.parametrize("kills", [(1,), (2,), (3, 1), (4, 0)])
def test_killed_svms_end_with_the_same_bytes(world, caplog, kills):
    undisturbed = svms_of(world, world.run("one"))
    for picture in kills:  # counted from where the call begins
        with pytest.raises(Killed):
            svms_of(world, world.run("two", dies_before(picture)))
    caplog.set_level(logging.INFO)
    assert svms_of(world, world.run("two")) == undisturbed
    assert ("SVMs go on from picture" in caplog.text) == (kills != (1,))
    one, two = (world.run(name).folder / "stages" for name in ("one", "two"))
    assert not (two / "svms.checkpoint").exists()
    (name,) = artefacts(world.run("one"), "svms")
    assert (one / name).read_bytes() == (two / name).read_bytes()


def test_every_negative_of_a_picture_is_mined(world):
    """The SVMs of one picture, without their checkpoints, by the miner alone."""
    data = Dataset(world.data.records[:1], CLASSES)
    run = world.run()
    svms = linear_stages.svm_stage(
        run, data, world.windows, world.entries[:1], FakeExtractor(), world.features, "head"
    )
    record = data.records[0]
    windows = np.concatenate([record.boxes, world.windows.load(record.path)])
    pooled = FakeExtractor().pool(None, windows)
    overlap = np.zeros((len(pooled.pooled), 2))
    for row, (x1, y1, x2, y2) in zip(pooled.index, windows, strict=True):
        for label, (a1, b1, a2, b2) in enumerate(record.boxes):
            shared = max(min(x2, a2) - max(x1, a1), 0) * max(min(y2, b2) - max(y1, b1), 0)
            union = (x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - shared
            overlap[row, label] = max(overlap[row, label], shared / union)
    objects = world.features(torch.from_numpy(feature_of(record.boxes).astype(np.float16)).float())
    miner = HardNegativeMiner(CLASSES, 6, refit_every=5).start([objects[:1], objects[1:]])
    miner.add_image(0, world.features(pooled.pooled), overlap < 0.3)
    np.testing.assert_array_equal(svms.coef_, miner.finish().coef_)


def test_positives_of_each_class(world):
    first = replace(world.entries[0], classes=np.array([1, 1, 0, 0]))
    empty = replace(world.entries[2], objects=0)
    entries = [first, world.entries[1], empty]
    cats, dogs, sheep = linear_stages.object_features(entries, world.features, 3)
    rows = [
        world.features(torch.from_numpy(entry.object_rows.read()).float()) for entry in entries[:2]
    ]
    np.testing.assert_array_equal(cats, rows[1][:1])
    np.testing.assert_array_equal(dogs, np.concatenate([rows[0], rows[1][1:]]))
    assert sheep.shape == (0, 6)
    assert sheep.dtype == np.float32


def made_miner(**settings):
    rng = np.random.default_rng(0)
    miner = HardNegativeMiner(CLASSES, 6, **settings)
    return miner.start([rng.random((3, 6), np.float32) for _ in CLASSES])


def test_resuming_the_miner(tmp_path):
    path = tmp_path / "svms.checkpoint"
    assert linear_stages.resume_miner(path, "key", made_miner()) == 0
    miner = made_miner()
    miner.add_image(0, np.random.default_rng(1).random((9, 6), np.float32), np.ones((9, 2), bool))
    stages.write_tensors(path, miner.state(), {"key": "key", "pictures": "1"})

    other = made_miner()
    assert linear_stages.resume_miner(path, "another key", other) == 0
    assert other.visited() == set()
    assert linear_stages.resume_miner(path, "key", other) == 1
    assert other.visited() == {0}
    np.testing.assert_array_equal(other.finish().coef_, miner.finish().coef_)
    message = rf"{path} cannot be gone on from: .* other classes, settings or positives; delete it"
    with pytest.raises(ValueError, match=message):
        linear_stages.resume_miner(path, "key", made_miner(C=1.0))


@pytest.mark.parametrize("damage", ["cut", "empty", "garbled"])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    path = tmp_path / "svms.checkpoint"
    stages.write_tensors(path, made_miner().state(), {"key": "key", "pictures": "1"})
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[:-10], "empty": b"", "garbled": b"x" * 500}[damage])
    with pytest.raises(ValueError, match=rf"{path} is not an SVM checkpoint \(.*\); delete it"):
        linear_stages.resume_miner(path, "key", made_miner())


def test_box_regression_reads_pooled_features_as_they_are(world, caplog):
    caplog.set_level(logging.INFO)
    run = world.run(bbox=BoxRegression(ridge=1.0))
    regressor = linear_stages.bbox_stage(run, world.data, world.bank, world.entries)
    rows, windows, targets, classes = (
        np.concatenate([part(entry) for entry in world.entries])
        for part in (
            lambda entry: entry.regression_rows.read().astype(np.float32),
            lambda entry: entry.windows,
            lambda entry: entry.targets,
            lambda entry: entry.classes,
        )
    )
    random = np.concatenate([entry.random_rows.read() for entry in world.entries])
    scale = 20 / np.linalg.norm(random.astype(np.float64), axis=1).mean()
    expected = BoxRegressor(1.0).fit(rows * scale, windows, targets, classes)
    np.testing.assert_allclose(
        regressor.predict(rows, windows), expected.predict(rows * scale, windows), atol=0.01
    )
    assert "box regression: reused" not in caplog.text
    again = linear_stages.bbox_stage(run, world.data, world.bank, world.entries)
    assert "box regression: reused" in caplog.text
    np.testing.assert_array_equal(again.weights_, regressor.weights_)


def test_keys_of_box_regression(world):
    other = SimpleNamespace(key="other", name_of=world.bank.name_of)
    for ridge, bank in ((1.0, world.bank), (2.0, world.bank), (1.0, other)):
        run = world.run(bbox=BoxRegression(ridge=ridge))
        linear_stages.bbox_stage(run, world.data, bank, world.entries)
    linear_stages.bbox_stage(
        world.run(bbox=BoxRegression(ridge=1.0), seed=5, workers=3, svm=Svm(C=9)),
        world.data,
        world.bank,
        world.entries,
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
