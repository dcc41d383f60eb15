"""The stage of fine-tuning: its two phases and their keys; a kill changes no byte."""

import logging
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from made_network import made_backbone
from made_world import (
    CLASSES,
    CONFIG,
    Killed,
    all_finetuned,
    artefacts,
    dies_before,
    events_of,
    finetuned,
    made_weights,
    made_world,
    same_state,
)

from detection.data.records import Dataset
from detection.features.scales import SCALES
from detection.inference.layers import LayerFeatures
from detection.networks.head import Head
from detection.networks.truncated import (
    ResponseMoments,
    TruncatedHead,
)
from detection.networks.weights import tensor_digest
from detection.ranks import ALONE
from detection.run import silent
from detection.settings.data import Data
from detection.settings.training import Svm
from detection.training.extractors import make_extractor
from detection.training.finetuning.phases import Phases, head_path, phase_of_fc


@pytest.fixture
def world(tmp_path):
    return made_world(tmp_path)


@pytest.fixture
def weights(monkeypatch):
    """Return weights of a tiny network, and make 32 pixels the only scale."""
    monkeypatch.setitem(SCALES, 1, (32,))
    return made_weights()


HIDDEN = 6


def trained_head(form="whole"):
    """Return a detector's head without classes, whose fc6 and fc7 are wider than the settings'."""
    head = Head(made_backbone().pooled_length, None, HIDDEN, dropout=0.0)
    head.initialise(torch.Generator().manual_seed(5), 2.0)
    if form == "whole":
        return head
    moments = ResponseMoments(head)
    moments.add(torch.rand(40, head.fc6.in_features, generator=torch.Generator().manual_seed(1)))
    return TruncatedHead.of(head, moments.responses(), 2)


FORMS = pytest.mark.parametrize("form", ["whole", "truncated"])


def test_fine_tuning_is_reused(world, weights, caplog):
    caplog.set_level(logging.INFO)
    run = world.run()
    backbone, head, key = finetuned(world, run, weights)
    assert "reused" not in caplog.text
    assert not head.training
    assert [path.name for path in (run.folder / "stages").iterdir()] == artefacts(run, "head")
    assert head_path(run, key) == run.artefact("head", key)
    # By default the convolutions do not change, as in the paper.
    assert same_state(backbone.trunk, made_backbone().trunk)
    assert backbone.digest == weights.digest
    again, same_head, same_key = finetuned(world, world.run(workers=2), weights)
    assert same_key == key
    assert f"fine-tuning: reused {run.artefact('head', key)}" in caplog.text
    assert same_state(same_head, head)
    assert same_state(again.trunk, backbone.trunk)


def test_convolutions_are_fine_tuned_and_read_back(world, weights):
    settings = replace(CONFIG.finetune, train_from="conv4", conv_rate=1.0, learning_rate=0.01)
    run = world.run(finetune=settings)
    backbone, head, _ = finetuned(world, run, weights)
    start, trained = made_backbone().trunk.state_dict(), backbone.trunk.state_dict()
    changed = {name for name in start if not torch.equal(start[name], trained[name])}
    assert changed == {f"{layer}.{kind}" for layer in (7, 9) for kind in ("weight", "bias")}
    # The keys of features depend on the trained convolutions.
    assert backbone.digest == tensor_digest(trained) != weights.digest
    assert make_extractor(run, backbone).facts["weights"] == backbone.digest
    again, same_head, _ = finetuned(world, run, weights)
    assert same_state(again.trunk, backbone.trunk)
    assert again.digest == backbone.digest
    assert same_state(same_head, head)


def test_runs_share_the_first_phase(world, weights, caplog):
    caplog.set_level(logging.INFO)
    _, head, first = finetuned(world, world.run(), weights)
    settings = replace(CONFIG.finetune, train_from="conv4", conv_rate=0.5, conv_steps=4)
    _, other, second = finetuned(world, world.run(finetune=settings), weights)
    assert f"fine-tuning: reused {world.run().artefact('head', first)}" in caplog.text
    assert first != second
    assert not same_state(head, other)
    assert len(artefacts(world.run(), "head")) == 2
    # At a learning rate of 0, the second phase ends with the head of the first.
    settings = replace(CONFIG.finetune, train_from="conv4", learning_rate=0)
    trunk, same, _ = finetuned(world, world.run("still", finetune=settings), weights)
    _, start, _ = finetuned(
        world, world.run("still", finetune=replace(CONFIG.finetune, learning_rate=0)), weights
    )
    assert same_state(trunk.trunk, made_backbone().trunk)
    torch.testing.assert_close(same.fc6.bias, start.fc6.bias, rtol=1e-5, atol=1e-6)
    assert torch.equal(same.fc6.weight, start.fc6.weight)


@pytest.mark.usefixtures("bfloat16")
def test_keys_of_fine_tuning(world, weights):
    changes = [
        {"seed": 1},
        {"precision": "bfloat16"},
        {"data": Data(difficult=True)},
        {"network": replace(CONFIG.network, scale_rule="released")},
        {"finetune": replace(CONFIG.finetune, steps=2)},
        {"finetune": replace(CONFIG.finetune, learning_rate=0.02)},
        {"finetune": replace(CONFIG.finetune, hidden=5)},
        {"finetune": replace(CONFIG.finetune, images=4)},
        {"finetune": replace(CONFIG.finetune, train_from="conv5")},
        {"finetune": replace(CONFIG.finetune, train_from="conv5", conv_steps=2)},
        {"finetune": replace(CONFIG.finetune, train_from="conv5", conv_images=4)},
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
    # With conv4 the first phase has one step, so that the kill falls into the second.
    settings = replace(CONFIG.finetune, train_from=layers, steps=3 if layers == "fc" else 1)

    def run(name, progress=silent):
        return world.run(name, progress, finetune=settings)

    _, _, key = finetuned(world, run("one"), weights)
    with pytest.raises(Killed):
        finetuned(world, run("two", dies_before(2)), weights)
    assert len(artefacts(run("two"), "head")) == (layers != "fc")
    caplog.set_level(logging.INFO)
    finetuned(world, run("two"), weights)
    assert "fine-tuning resumes at step 2" in caplog.text
    one, two = (run(name).artefact("head", key).read_bytes() for name in ("one", "two"))
    assert one == two
    assert not (run("two").folder / "stages/fine-tuning.checkpoint").exists()


def test_the_learning_curve_is_recorded(world, weights):
    finetuned(world, world.run(), weights)
    (event,) = events_of(world.run(), "fine-tuning")
    assert event["step"] == 3
    assert event["train_loss"] > 0
    assert event["held_back_loss"] > 0
    run = world.run("no curve", held_back=0)
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
    settings = replace(CONFIG.finetune, train_from="conv5")
    run = world.run(svm=Svm(layers=("pool5",)), finetune=settings)
    backbone, head, _ = finetuned(world, run, weights)
    assert head is not None
    assert backbone.digest != weights.digest


@pytest.mark.parametrize("change", [{"svm": Svm(layers=("pool5", "fc7"))}, {"svm": Svm()}, {}])
def test_rcnn_with_what_it_cannot_train_is_refused(world, weights, change):
    change = change or {
        "svm": Svm(layers=("pool5",)),
        "finetune": replace(CONFIG.finetune, train_from="conv5"),
    }
    run = world.run(features="rcnn", **change)
    message = (
        r"with --features rcnn only --svm.layers \[pool5\] and --finetune.train_from fc can be"
    )
    with pytest.raises(ValueError, match=message):
        finetuned(world, run, weights)
    assert not run.folder.exists()


@pytest.mark.usefixtures("bfloat16")
def test_fc_layers_learn_from_the_features_of_the_stages_after(world, weights):
    backbone, run = made_backbone(), world.run(precision="bfloat16")
    phases = Phases(run, None, None, None, weights, backbone, None, ALONE)
    fc = phases._extractor(phase_of_fc(run.config.finetune))
    assert fc.facts == make_extractor(run, backbone).facts
    assert fc.precision == "bfloat16"
    conv = phases._extractor(replace(run.config.finetune, train_from="conv3"))
    assert conv.precision == "float32"
    assert conv.trunk is backbone.trunk


@FORMS
def test_without_steps_a_detectors_head_stays_as_it_is(world, weights, form):
    given = trained_head(form)
    run = world.run(start="here", finetune=replace(CONFIG.finetune, steps=0))
    before = {name: value.clone() for name, value in given.state_dict().items()}
    _, found = all_finetuned(world, run, replace(weights, head=given))
    assert found.head is given
    assert all(torch.equal(value, before[name]) for name, value in found.head.state_dict().items())
    # Other processes read the same head from its file, a truncated one as truncated.
    path = head_path(run, found.key)
    loaded = LayerFeatures.load(path, found.key, {}, "float32")
    assert type(loaded.head) is type(given)
    assert not loaded.has_softmax
    rows = torch.rand(3, made_backbone().pooled_length)
    for layer, values in loaded(rows, ["fc6", "fc7"]).items():
        assert (values == LayerFeatures(given, {})(rows, [layer])[layer]).all()
    written = path.read_bytes()
    _, again = all_finetuned(world, run, replace(weights, head=trained_head(form)))
    assert again.key == found.key
    assert path.read_bytes() == written
    other = trained_head(form)
    with torch.no_grad():
        next(other.parameters()).mul_(2)
    assert all_finetuned(world, run, replace(weights, head=other))[1].key != found.key


@FORMS
def test_fine_tuning_from_a_detectors_head(world, weights, form):
    given = replace(weights, head=trained_head(form))
    run = world.run(start="here", finetune=replace(CONFIG.finetune, learning_rate=0))
    _, head, key = finetuned(world, run, given)
    assert type(head) is type(given.head)
    # The head is as wide as the detector's, whatever the settings say, with the data's classes.
    assert (head.fc8.in_features, head.fc8.out_features) == (HIDDEN, len(CLASSES) + 1)
    for name, value in given.head.state_dict().items():
        if not name.startswith("fc8"):
            torch.testing.assert_close(head.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    assert LayerFeatures(head, {}).has_softmax
    keys = {key, finetuned(world, world.run(finetune=run.config.finetune), weights)[2]}
    form = "truncated" if form == "whole" else "whole"
    keys.add(finetuned(world, run, replace(weights, head=trained_head(form)))[2])
    assert len(keys) == 3


@FORMS
def test_fine_tuning_from_a_detector_trains_and_resumes(world, weights, form):
    given, settings = replace(weights, head=trained_head(form)), replace(CONFIG.finetune, hidden=99)

    def run(name, progress=silent):
        return world.run(name, progress, start="here", finetune=settings)

    _, head, key = finetuned(world, run("one"), given)
    for name, before in given.head.named_parameters():
        if not name.startswith("fc8"):
            assert 0 < (head.state_dict()[name] - before).abs().max() < 0.1
    with pytest.raises(Killed):
        finetuned(world, run("two", dies_before(2)), given)
    finetuned(world, run("two"), given)
    one, two = (run(name).artefact("head", key).read_bytes() for name in ("one", "two"))
    assert one == two
