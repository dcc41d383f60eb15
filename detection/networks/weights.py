"""A network's weights and their files.

Every file uses torchvision's names: ``features.N.weight`` and ``.bias`` for the convolutions and,
if present, ``classifier.1`` and ``classifier.4`` for fc6 and fc7. Converted weights are saved as
safetensors with the digest of their tensors, which is checked on reading.
"""

import hashlib
import logging
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from detection.networks.head import Head
from detection.networks.truncated import TruncatedHead
from detection.networks.zoo.catalogue import network_named
from detection.networks.zoo.resnet50_caffe import read_tfjs
from files.writing import file_digest, write_atomic

log = logging.getLogger(__name__)

_CLASSIFIER = {
    "classifier.1.weight": "fc6.weight",
    "classifier.1.bias": "fc6.bias",
    "classifier.4.weight": "fc7.weight",
    "classifier.4.bias": "fc7.bias",
}


@dataclass(frozen=True)
class Weights:
    """Weights of a trunk and, if the source has them, of fc6 and fc7.

    Attributes:
        state: state dict of the trunk, float32.
        source: description of where the weights came from.
        digest: ``tensor_digest`` of ``state`` (not of the classifier).
        classifier: ``fc6.weight`` ``(4096, 9216)``, whose inputs are channel, row, column of a 6x6
            map, ``fc6.bias``, ``fc7.weight`` ``(4096, 4096)``, ``fc7.bias``; or None.
        head: fc6 and fc7 of a trained detector, on the pyramid and without its classes; or None.
    """

    state: dict[str, Tensor]
    source: str
    digest: str
    classifier: dict[str, Tensor] | None = None
    head: Head | TruncatedHead | None = None


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) of the tensors' names, types, shapes and bytes, independent of their order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def trunk_shapes(name: str) -> dict[str, torch.Size]:
    """Shapes of a trunk's state, by key."""
    trunk = network_named(name).empty_trunk()
    return {key: tensor.shape for key, tensor in trunk.state_dict().items()}


def random_weights(name: str) -> Weights:
    """He initialisation, biases zero, the same at every call; the features mean nothing."""
    log.warning("%s starts from random weights: it has learned nothing yet", name)
    generator = torch.Generator().manual_seed(0)
    state = {}
    for key, shape in trunk_shapes(name).items():
        values = torch.zeros(shape)
        if values.dim() == 4:
            nn.init.kaiming_normal_(values, nonlinearity="relu", generator=generator)
        elif key.endswith(("weight", "running_var")):  # of a normalisation
            values.fill_(1)
        state[key] = values
    return Weights(state, "random (He initialisation, seed 0)", tensor_digest(state))


def read_weights(name: str, path: Path) -> Weights:
    """Weights from a file with torchvision's names, whose shapes must be the network's.

    The content must match the digest recorded in a safetensors file, or the hash in the name of
    torchvision's own download.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or of another network.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}")
    try:
        tensors, recorded = _read_tensors(name, path)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        raise ValueError(f"{path} is not a readable weights file ({error}); delete it") from error
    state = _trunk_state(name, tensors, path)
    digest = tensor_digest(state)
    index, expected = network_named(name).index, recorded.get("digest")
    if index is not None and path.name == f"{file_stem(name)}_index.safetensors":
        expected = index.digest
    if expected is not None and digest != expected:
        raise ValueError(
            f"{path} is damaged: its filters have digest {digest[:16]}, expected {expected[:16]}; "
            "delete it and run again"
        )
    classifier = _classifier(name, tensors)
    if len(classifier) not in (0, len(_CLASSIFIER)):
        raise ValueError(f"{path} has only a part of fc6 and fc7: {', '.join(classifier)}")
    if classifier and tensor_digest(classifier) != recorded.get(
        "classifier_digest", tensor_digest(classifier)
    ):
        raise ValueError(
            f"{path} is damaged: fc6 and fc7 differ from the recorded digest; delete it"
        )
    source = recorded.get("source", "local file") + f" ({path})"
    return Weights(state, source, digest, classifier or None)


def _classifier(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of fc6 and fc7 in a file, if any.

    Networks without a prefix have none: they use these names for other layers.
    """
    if not network_named(name).prefix:
        return {}
    return {ours: tensors[key] for key, ours in _CLASSIFIER.items() if key in tensors}


def _read_tensors(name: str, path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and string metadata of a safetensors or torch file."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    if path.suffix == ".tgz":
        return read_tfjs(path), {}
    prefix = path.stem.rpartition("-")[2]
    if path.name == torchvision_file(name) and not file_digest(path).startswith(prefix):
        raise ValueError(f"{path} is damaged: its SHA-256 does not start with {prefix}; delete it")
    return torch.load(path, map_location="cpu", weights_only=True), {}


def _trunk_state(name: str, tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The trunk's tensors from a file: float32, with shapes checked against the trunk."""
    state, prefix = {}, network_named(name).prefix
    for key, shape in trunk_shapes(name).items():
        found = tensors.get(prefix + key)
        if found is None or found.shape != shape:
            has = "nothing" if found is None else f"shape {tuple(found.shape)}"
            raise ValueError(
                f"{path} is not of {name}: {prefix}{key} should have shape "
                f"{tuple(shape)}, found {has}"
            )
        # The other types are normalisation's counters of batches, which stay integers.
        state[key] = (found.float() if found.is_floating_point() else found).contiguous()
    return state


def file_stem(name: str) -> str:
    """Beginning of the names of a network's files: ``resnet50_layer3`` for ``resnet50/layer3``."""
    return name.replace("/", "_")


def torchvision_file(name: str) -> str:
    """Name of torchvision's own file of a network; empty if there is none."""
    return (network_named(name).torchvision or "").rpartition("/")[2]


def write_weights(name: str, path: Path, tensors: dict[str, Tensor], source: str) -> None:
    """Write the trunk, and fc6 and fc7 if present, with a digest of each.

    Args:
        name: of the network.
        path: of the .safetensors file.
        tensors: of the whole network, by torchvision's names.
        source: description of where they came from.

    Raises:
        ValueError: the tensors are not of this network.
    """
    state, classifier = _trunk_state(name, tensors, path), _classifier(name, tensors)
    kept = {network_named(name).prefix + key: tensor for key, tensor in state.items()}
    kept |= {key: tensors[key] for key, ours in _CLASSIFIER.items() if ours in classifier}
    metadata = {"source": source, "digest": tensor_digest(state)}
    if classifier:
        metadata["classifier_digest"] = tensor_digest(classifier)
    with write_atomic(path) as file:
        file.write(save(kept, metadata))
