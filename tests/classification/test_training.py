"""A small training: what it learns, what determines its bytes, and how it handles bad input."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from damage import fail_to_open
from made_classes import write_classes
from PIL import Image

from classification import keys
from classification.config import Config, Data, Network, Training
from classification.epochs import learning_rate_at, means, scores
from classification.folder import read_folder
from classification.keys import training_keys
from classification.loading import test_places as places_of_test
from classification.loading import training_places
from classification.network import load_classifier
from classification.run import ClassifierRun
from classification.training import train_classifier
from detection.ranks import Ranks
from files.images import UnreadableImage

SMALL = Training(
    crop=64, small=56, positions="any", epochs=4, batch=8, learning_rate=0.02, colour=0.05
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("classes") / "data")


def config_of(root, run, training=SMALL, **settings):
    return Config(
        run=str(run),
        workers=settings.pop("workers", 1),
        device="cpu",
        data=Data(root=str(root), shorter_side=70, keep_gb=settings.pop("keep_gb", 1.0)),
        network=Network("alexnet", levels=(1, 2), hidden=16),
        training=training,
        **settings,
    )


def train(config):
    data = read_folder(config.data.root, "train")
    val = read_folder(config.data.root, "val", data.classes)
    run = ClassifierRun(config)
    facts = train_classifier(config, run, Ranks(0, 1, torch.device("cpu")), data, val)
    return run, facts


def epochs_of(run):
    lines = map(json.loads, (run.folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["event"] == "epoch"]


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory):
    run, _ = train(config_of(root, tmp_path_factory.mktemp("runs") / "whole"))
    return run


def test_every_epoch_is_recorded(trained):
    events = epochs_of(trained)
    assert [event["size"] for event in events] == [64, 56, 64, 56]
    assert [event["epoch"] for event in events] == [1, 2, 3, 4]
    assert events[-1]["val_loss"] > 0
    assert "val_top5" not in events[-1]  # there are three classes
    assert all(event["images_per_second"] > 0 for event in events)


def test_it_learns(root, tmp_path):
    config = config_of(root, tmp_path, replace(SMALL, epochs=6, batch=4, learning_rate=0.006))
    config = replace(config, network=replace(config.network, hidden=32, dropout=0.0))
    events = epochs_of(train(config)[0])
    assert events[-1]["loss"] < 0.25 * events[0]["loss"]
    assert events[-1]["top1"] > 0.9
    assert events[-1]["val_top1"] > 0.8


def test_the_file_describes_itself(trained):
    network, classes, facts = load_classifier(trained.classifier_path)
    assert classes == ["blue", "green", "red"]
    assert network.settings["levels"] == [1, 2]
    assert facts["shorter_side"] == 70
    assert facts["training"]["crop"] == 64
    assert facts["tested"]["top1"] == epochs_of(trained)[-1]["val_top1"]
    assert not (trained.folder / "training.checkpoint").exists()


def test_a_second_call_reuses_the_classifier(root, trained):
    before = trained.classifier_path.stat().st_mtime_ns
    train(config_of(root, trained.folder))
    assert trained.classifier_path.stat().st_mtime_ns == before


@pytest.mark.parametrize("settings", [{"workers": 2}, {"keep_gb": 0.0}])
def test_bytes_know_nothing_of_readers_and_memory(root, trained, tmp_path, settings):
    run, _ = train(config_of(root, tmp_path / "run", **settings))
    assert run.classifier_path.read_bytes() == trained.classifier_path.read_bytes()


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_killed_training_ends_with_the_same_bytes(root, trained, tmp_path, monkeypatch, epochs):
    config = config_of(root, tmp_path / "run")
    event = ClassifierRun.event

    def stop(run, kind, **facts):
        if facts.get("epoch") == epochs + 1:
            raise KeyboardInterrupt
        event(run, kind, **facts)

    with monkeypatch.context() as patch:
        patch.setattr(ClassifierRun, "event", stop)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    assert (tmp_path / "run" / "training.checkpoint").exists()
    run, _ = train(config)
    assert run.classifier_path.read_bytes() == trained.classifier_path.read_bytes()
    assert [event["epoch"] for event in epochs_of(run)] == [1, 2, 3, 4]


def test_another_seed_leaves_the_checkpoint_aside(root, trained, tmp_path):
    config = replace(config_of(root, tmp_path / "run", replace(SMALL, epochs=1)), seed=1)
    run, facts = train(config)
    assert facts["seed"] == 1
    whole = load_classifier(trained.classifier_path)[2]
    assert facts["settings"] != whole["settings"]  # the number of epochs differs
    assert run.classifier_path.read_bytes() != trained.classifier_path.read_bytes()


def test_seeds_share_the_key_of_settings(root):
    data = read_folder(root, "train"), read_folder(root, "val")
    one = training_keys(config_of(root, "a", workers=2), *data)
    seed = training_keys(replace(config_of(root, "b"), seed=1), *data)
    assert one.settings == seed.settings
    assert one.key != seed.key
    other = training_keys(config_of(root, "a", replace(SMALL, momentum=0.5)), *data)
    images = training_keys(config_of(root, "a"), *reversed(data))
    assert len({one.settings, other.settings, images.settings}) == 3


def test_images_are_known_by_their_bytes_in_a_large_set_by_sizes(root, tmp_path, monkeypatch):
    shutil.copytree(root, tmp_path / "data")
    red, blue = (tmp_path / "data" / "train" / name / "0.bmp" for name in ("red", "blue"))
    for path in (red, blue):  # BMP files of images of one size have one size
        Image.open(path.with_suffix(".png")).resize((30, 30)).save(path)

    def key():
        data = (read_folder(tmp_path / "data", split) for split in ("train", "val"))
        return training_keys(config_of(tmp_path, "a"), *data).key

    def swap():
        content = red.read_bytes(), blue.read_bytes()
        for path, other in zip((blue, red), content, strict=True):
            path.write_bytes(other)

    before = key()
    assert key() == before
    swap()
    assert key() != before
    monkeypatch.setattr(keys, "MOST_BYTES", 100)
    before = key()
    swap()
    assert key() == before
    red.write_bytes(b"no image")
    assert key() != before


@pytest.fixture
def broken(tmp_path):
    root = write_classes(tmp_path / "data")
    (root / "train" / "red" / "5.png").write_bytes(b"no image")
    (root / "val" / "blue" / "0.png").write_bytes(b"")
    (root / "val" / "red" / "away.png").symlink_to(tmp_path / "nowhere.png")
    return root


def test_unreadable_images_are_skipped_and_listed(broken, tmp_path):
    run, facts = train(config_of(broken, tmp_path / "run", replace(SMALL, epochs=1)))
    assert sorted(facts["skipped"]) == ["train/red/5.png", "val/blue/0.png", "val/red/away.png"]
    assert "is not a readable image" in facts["skipped"]["train/red/5.png"]
    assert load_classifier(run.classifier_path)[2]["skipped"] == facts["skipped"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_disk_that_fails_ends_the_training(root, tmp_path, monkeypatch, workers):
    """If a passing fault left the image out, it would be missing in every later epoch."""
    fail_to_open(monkeypatch, "red/3.png")
    config = config_of(root, tmp_path / "run", replace(SMALL, epochs=1), workers=workers)
    with pytest.raises(OSError, match=r"\A\S*red/3\.png could not be read .*run the same command"):
        train(config)


def test_a_batch_of_which_nothing_can_be_read(tmp_path):
    root = write_classes(tmp_path / "data", train=1, val=1)
    for path in (root / "train").rglob("*.png"):
        path.write_bytes(b"no image")
    _, facts = train(config_of(root, tmp_path / "run", replace(SMALL, batch=3, epochs=1)))
    assert len(facts["skipped"]) == 3


def test_strict_stops(broken, tmp_path):
    config = config_of(broken, tmp_path / "run", replace(SMALL, epochs=1), strict=True)
    with pytest.raises(UnreadableImage, match=r"\.png is not a readable image"):
        train(config)


def test_batches_larger_than_the_training(root, tmp_path):
    config = config_of(root, tmp_path / "run", replace(SMALL, batch=25))
    with pytest.raises(ValueError, match="batch must be from 1, one image per process, to 24"):
        train(config)


def test_sizes_too_small_for_the_trunk(root, tmp_path):
    config = config_of(root, tmp_path / "run", replace(SMALL, small=20))
    with pytest.raises(ValueError, match="images of 20x20 are too small for alexnet"):
        train(config)


def test_a_last_step_that_diverges(root, tmp_path, monkeypatch):
    """The training loss does not show the effect of the last step; the weights do."""
    step = torch.optim.SGD.step

    def away(optimizer, *rest):
        step(optimizer, *rest)
        optimizer.param_groups[0]["params"][0].data.fill_(torch.inf)

    monkeypatch.setattr(torch.optim.SGD, "step", away)
    config = config_of(root, tmp_path / "run", replace(SMALL, batch=24, epochs=1))
    with pytest.raises(RuntimeError, match=r"epoch 1: .* not finite; .* --training.learning_rate"):
        train(config)
    assert not (tmp_path / "run" / "classifier.safetensors").exists()


def test_descent_that_diverges(root, tmp_path):
    config = config_of(root, tmp_path / "run", replace(SMALL, learning_rate=10.0, epochs=2))
    with pytest.raises(RuntimeError, match=r"diverged at step .* lower --training.learning_rate"):
        train(config)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"training": Training(crop=224)}, "crop 224 is larger than Data.shorter_side 128"),
        ({"network": Network(levels=()), "training": SMALL}, "alternating needs a pyramid"),
    ],
)
def test_settings_that_do_not_fit(settings, said):
    with pytest.raises(ValueError, match=said):
        Config(data=Data(shorter_side=128), **settings)


def test_every_image_once_whatever_the_processes(root):
    config = config_of(root, "run", replace(SMALL, batch=6))
    whole = list(training_places(20, config, range(2), 0, 1))
    assert [len(batch) for batch in whole] == [6] * 6
    for epoch in (0, 1):
        rows = [row for batch in whole[3 * epoch : 3 * epoch + 3] for _, row in batch]
        assert len(set(rows)) == 18
    parts = [list(training_places(20, config, range(2), rank, 4)) for rank in range(4)]
    for batch, *shares in zip(whole, *parts, strict=True):
        assert sorted(place for share in shares for place in share) == sorted(batch)
    tested = [
        row for rank in range(4) for each in places_of_test(11, 2, rank, 4) for _, row in each
    ]
    assert sorted(tested) == list(range(11))


def test_scores_are_those_of_their_slow_twin():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(50, 9)), rng.integers(0, 9, 50)
    places = [
        sorted(row, reverse=True).index(row[y]) for row, y in zip(logits, labels, strict=True)
    ]
    sums = scores(torch.tensor(logits), torch.tensor(labels), torch.tensor(100.0))
    expected = {"loss": 2, "top1": np.mean(np.array(places) < 1)}
    assert means(sums, 5) == pytest.approx(expected)
    assert means(sums, 9) == pytest.approx(expected | {"top5": np.mean(np.array(places) < 5)})


def test_the_rate_falls_twice():
    rates = [learning_rate_at(epoch, Training(epochs=20)) for epoch in range(20)]
    assert rates == pytest.approx([0.01] * 12 + [0.001] * 5 + [0.0001] * 3)
