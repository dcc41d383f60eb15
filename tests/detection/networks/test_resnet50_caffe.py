"""ResNet-50 with Caffe's strides, and its weights from a package of TensorFlow.js."""

import io
import json
import tarfile

import numpy as np
import pytest
import torch
from torch.nn.functional import batch_norm, conv2d, max_pool2d

from detection.networks.build import build_backbone
from detection.networks.zoo.resnet50_caffe import read_tfjs, torchvision_name

BLOCKS = {2: "abc", 3: "abcd", 4: "abcdef", 5: "abc"}


def made_arrays(rng):
    """Return weights by their Keras names; the normalisations are not the identity."""
    arrays = {}

    def convolution(name, kernel, inputs, outputs):
        normalisation = "bn_conv1" if name == "conv1" else "bn" + name[3:]
        shape = (kernel, kernel, inputs, outputs)
        arrays[f"{name}/kernel"] = rng.normal(0, np.sqrt(2 / np.prod(shape[:3])), shape)
        arrays[f"{name}/bias"] = rng.normal(0, 0.1, outputs)
        for kind, low, high in (
            ("gamma", 0.4, 0.6),
            ("beta", -0.1, 0.1),
            ("moving_mean", -0.1, 0.1),
            ("moving_variance", 0.5, 1.5),
        ):
            arrays[f"{normalisation}/{kind}"] = rng.uniform(low, high, outputs)

    convolution("conv1", 7, 3, 64)
    inputs = 64
    for stage, letters in BLOCKS.items():
        inner = 64 * 2 ** (stage - 2)
        for letter in letters:
            start = f"res{stage}{letter}_branch"
            convolution(f"{start}2a", 1, inputs, inner)
            convolution(f"{start}2b", 3, inner, inner)
            convolution(f"{start}2c", 1, inner, 4 * inner)
            if letter == "a":
                convolution(f"{start}1", 1, inputs, 4 * inner)
            inputs = 4 * inner
    return {name: values.astype(np.float32) for name, values in arrays.items()}


def slow_map(arrays, image):
    """Return an image's map as Keras' graph computes it from the arrays."""
    tensors = {name: torch.from_numpy(values) for name, values in arrays.items()}

    def layer(x, name, stride=1, padding=0):
        kernel = tensors[f"{name}/kernel"].permute(3, 2, 0, 1)
        x = conv2d(x, kernel, tensors[f"{name}/bias"], stride, padding)
        bn = "bn_conv1" if name == "conv1" else "bn" + name[3:]
        mean, variance, gamma, beta = (
            tensors[f"{bn}/{kind}"] for kind in ("moving_mean", "moving_variance", "gamma", "beta")
        )
        return batch_norm(x, mean, variance, gamma, beta, eps=1e-3)

    x = max_pool2d(layer(image, "conv1", 2, 3).relu(), 3, 2, 1)
    for stage, letters in BLOCKS.items():
        for letter in letters:
            start, stride = f"res{stage}{letter}_branch", 2 if letter == "a" and stage > 2 else 1
            inner = layer(x, f"{start}2a", stride).relu()
            inner = layer(layer(inner, f"{start}2b", 1, 1).relu(), f"{start}2c")
            x = (inner + (layer(x, f"{start}1", stride) if letter == "a" else x)).relu()
    return x


def save_package(path, arrays, shard=1 << 20):
    """Write a package as TensorFlow.js does: a manifest, and the weights in shards of one size."""
    content = b"".join(values.tobytes() for values in arrays.values())
    shards = [content[at : at + shard] for at in range(0, len(content), shard)]
    names = [f"group1-shard{number + 1}of{len(shards)}.bin" for number in range(len(shards))]
    weights = [
        {"name": name, "shape": list(values.shape), "dtype": "float32"}
        for name, values in arrays.items()
    ]
    manifest = json.dumps({"weightsManifest": [{"paths": names, "weights": weights}]}).encode()
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        # The archive holds the shards in reversed order.
        for name, data in [("model.json", manifest), *zip(names, shards, strict=True)][::-1]:
            info = tarfile.TarInfo(f"package/ResNet50/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_the_map_is_that_of_keras_graph(rng, tmp_path):
    arrays = made_arrays(rng)
    path = save_package(tmp_path / "package.tgz", arrays)
    backbone = build_backbone("resnet50_caffe", str(path))
    image = torch.randn(1, 3, 95, 130, generator=torch.Generator().manual_seed(0))
    expected = slow_map(arrays, image)
    torch.testing.assert_close(backbone(image), expected, rtol=1e-4, atol=1e-4)
    assert (backbone.channels, backbone.stride, backbone.standard_cells) == (2048, 32, 7)


def test_names():
    assert torchvision_name("conv1") == "conv1"
    assert torchvision_name("bn_conv1") == "bn1"
    assert torchvision_name("res2a_branch2a") == "layer1.0.conv1"
    assert torchvision_name("bn4f_branch2c") == "layer3.5.bn3"
    assert torchvision_name("res3a_branch1") == "layer2.0.downsample.0"
    assert torchvision_name("bn3a_branch1") == "layer2.0.downsample.1"
    with pytest.raises(ValueError, match="fc1000 is not a layer of a ResNet"):
        torchvision_name("fc1000")


def test_other_archives_are_refused(tmp_path, rng):
    other = save_package(tmp_path / "other.tgz", {"dense/kernel": np.zeros((1, 1, 2, 2), "f4")})
    (tmp_path / "broken.tgz").write_bytes(b"no archive")
    with tarfile.open(tmp_path / "empty.tgz", "w:gz"):
        pass
    for path in (other, tmp_path / "broken.tgz", tmp_path / "empty.tgz"):
        with pytest.raises(ValueError, match=rf"{path.name} holds no ResNet-50 of TensorFlow"):
            read_tfjs(path)
