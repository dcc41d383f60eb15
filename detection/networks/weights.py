"""Where a network's weights come from: a file, torchvision, the package index, or chance.

Every file has torchvision's names: ``features.N.weight`` and ``.bias`` for the convolutions and,
where they are, ``classifier.1`` and ``classifier.4`` for fc6 and fc7. Converted weights are kept as
safetensors with the digest of their tensors, which is checked when they are read.
"""

import hashlib
import http.client
import logging
import pickle
import socket
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from detection.networks.head import Head
from detection.networks.index_weights import download_filters
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
_DOWNLOAD_TIMEOUT_S = 30


@dataclass(frozen=True)
class Weights:
    """Weights of a trunk and, where the source has them, of fc6 and fc7.

    Attributes:
        state: state dict of the trunk, float32.
        source: where it came from, for people.
        digest: ``tensor_digest`` of ``state`` (not of the classifier).
        classifier: ``fc6.weight`` ``(4096, 9216)`` whose inputs are channel, row, column of a 6x6
            map, ``fc6.bias``, ``fc7.weight`` ``(4096, 4096)``, ``fc7.bias``; or None.
        head: fc6 and fc7 on the pyramid, of a trained detector and without its classes; or None.
    """

    state: dict[str, Tensor]
    source: str
    digest: str
    classifier: dict[str, Tensor] | None = None
    head: Head | TruncatedHead | None = None


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256, in hex, over names, types, shapes and bytes of tensors; their order is no matter."""
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


def load_weights(name: str, source: str, folder: Path = Path("data/weights")) -> Weights:
    """Weights of a network.

    Args:
        name: of the catalogue, or ``model/layer`` of torchvision.
        source: ``auto``, ``torchvision``, ``index``, ``random``, or a ``.safetensors``, ``.pth`` or
            ``.pt`` file, or a ``.tgz`` of TensorFlow.js (``resnet50_caffe.py``). ``auto`` takes the
            first of: ``<name>.safetensors`` in the folder, torchvision's own file there
            (``alexnet-owt-7be5be79.pth``), weights kept there by an earlier call (torchvision's
            before the index's), a download from torchvision, the package index. It never falls
            back to random weights.
        folder: where weights are looked for and kept.

    Raises:
        ValueError: an unknown name or source, or a file that is damaged or of another network.
        FileNotFoundError: no file at the path given.
        RuntimeError: no weights could be had.
    """
    network = network_named(name)
    if source == "random":
        return random_weights(name)
    if source.endswith((".safetensors", ".pth", ".pt", ".tgz")):
        return read_weights(name, Path(source))
    if source not in ("auto", "torchvision", "index"):
        raise ValueError(
            "weights must be auto, torchvision, index, random or a .safetensors or .pth file, "
            f"got {source!r}"
        )
    if network.torchvision is None and network.index is None:
        return _only_by_hand(name, source, folder)
    kept = _kept(name, source, folder)
    if kept is not None:
        return read_weights(name, kept)
    return _fetch(name, source, folder)


def random_weights(name: str) -> Weights:
    """He initialisation, biases zero, the same at every call; the features mean nothing."""
    log.warning("%s starts from random weights: its features know nothing of images", name)
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
    """Weights from a file of torchvision's names, shapes checked against the network.

    A digest recorded in a safetensors file, and the hash in the name of torchvision's own
    download, must be those of the content.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or not of this network.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}")
    try:
        tensors, recorded = _read_tensors(name, path)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        raise ValueError(f"{path} is no readable weights file ({error}); delete it") from error
    state = _trunk_state(name, tensors, path)
    digest = tensor_digest(state)
    index, expected = network_named(name).index, recorded.get("digest")
    if index is not None and path.name == f"{_stem(name)}_index.safetensors":
        expected = index.digest
    if expected is not None and digest != expected:
        raise ValueError(
            f"{path} is damaged: its filters have digest {digest[:16]}, expected {expected[:16]}; "
            "delete it and run again"
        )
    classifier = _classifier(name, tensors)
    if len(classifier) not in (0, len(_CLASSIFIER)):
        raise ValueError(f"{path} holds part of fc6 and fc7 only: {', '.join(classifier)}")
    if classifier and tensor_digest(classifier) != recorded.get(
        "classifier_digest", tensor_digest(classifier)
    ):
        raise ValueError(f"{path} is damaged: fc6 and fc7 are not those recorded; delete it")
    source = recorded.get("source", "local file") + f" ({path})"
    return Weights(state, source, digest, classifier or None)


def _stem(name: str) -> str:
    """The beginning of a network's files: ``resnet50_layer3`` of ``resnet50/layer3``."""
    return name.replace("/", "_")


def _classifier(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of fc6 and fc7 that a file has; other networks use their names for other layers."""
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
    """The trunk's part of a file, every tensor float32 and of the trunk's shape."""
    state, prefix = {}, network_named(name).prefix
    for key, shape in trunk_shapes(name).items():
        found = tensors.get(prefix + key)
        if found is None or found.shape != shape:
            has = "nothing" if found is None else f"shape {tuple(found.shape)}"
            raise ValueError(
                f"{path} is not of {name}: {prefix}{key} should have shape "
                f"{tuple(shape)}, found {has}"
            )
        # Those that are no floats count batches of a training long past.
        state[key] = (found.float() if found.is_floating_point() else found).contiguous()
    return state


def _only_by_hand(name: str, source: str, folder: Path) -> Weights:
    """Weights of a network nobody publishes: a file put in the folder."""
    path = folder / f"{_stem(name)}.safetensors"
    if source == "auto" and path.is_file():
        return read_weights(name, path)
    how = network_named(name).by_hand
    there = (
        f"weights of {name} are not fetched from here: {how}"
        if how
        else (
            f"there are no public weights of {name}: put a file of its weights at {path}, give its "
            "path as --network.weights"
        )
    )
    raise RuntimeError(f"{there}, or use --network.weights random")


def torchvision_file(name: str) -> str:
    """Name of torchvision's own file of a network; empty where there is none."""
    return (network_named(name).torchvision or "").rpartition("/")[2]


def _kept(name: str, source: str, folder: Path) -> Path | None:
    """The file of a network's weights to use without downloading, if there is one."""
    by_hand = [f"{_stem(name)}.safetensors"]
    torchvision = [torchvision_file(name), f"{_stem(name)}_torchvision.safetensors"]
    index = [f"{_stem(name)}_index.safetensors"]
    names = {"auto": by_hand + torchvision + index, "torchvision": torchvision, "index": index}
    return next((folder / file for file in names[source] if (folder / file).is_file()), None)


def _fetch(name: str, source: str, folder: Path) -> Weights:
    """Download by the routes the source allows, keep the first that succeeds, and read it back."""
    routes: dict[str, tuple[str, Callable[[], dict[str, Tensor]]]] = {}
    if network_named(name).torchvision is not None:
        words = f"torchvision's ImageNet weights of {name}"
        routes["torchvision"] = (words, partial(_download_torchvision, name))
    if (index := network_named(name).index) is not None:
        words = f"ImageNet weights of {name} in {index.package}"
        routes["index"] = (words, partial(download_filters, index))
    if source != "auto" and source not in routes:
        raise ValueError(f"{name} has no weights by {source!r}, only by {', '.join(routes)}")
    failures = []
    for route in routes if source == "auto" else (source,):
        words, download = routes[route]
        try:
            log.info("fetching %s", words)
            tensors = download()
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            log.warning("no weights by the route %s: %s", route, error)
            failures.append(f"{route}: {error}")
            continue
        path = folder / f"{_stem(name)}_{route}.safetensors"
        _keep(name, path, tensors, words)
        return read_weights(name, path)
    file = torchvision_file(name) or f"{_stem(name)}.safetensors"
    raise RuntimeError(
        f"no weights of {name} could be had ({'; '.join(failures)}); put {file} into {folder}/, "
        "make the package index reachable for pip, or use --network.weights random"
    )


def _download_torchvision(name: str) -> dict[str, Tensor]:
    """Torchvision's whole network; the host must answer within half a minute."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT_S)
    try:
        with tempfile.TemporaryDirectory() as folder:
            url = network_named(name).torchvision or ""
            path = Path(folder) / torchvision_file(name)
            torch.hub.download_url_to_file(
                url, str(path), hash_prefix=path.stem.rpartition("-")[2], progress=False
            )
            return dict(torch.load(path, map_location="cpu", weights_only=True))
    finally:
        socket.setdefaulttimeout(before)


def _keep(name: str, path: Path, tensors: dict[str, Tensor], source: str) -> None:
    """Write the trunk, and fc6 and fc7 if there, with the digests of these parts."""
    state, classifier = _trunk_state(name, tensors, path), _classifier(name, tensors)
    kept = {network_named(name).prefix + key: tensor for key, tensor in state.items()}
    kept |= {key: tensors[key] for key, ours in _CLASSIFIER.items() if ours in classifier}
    metadata = {"source": source, "digest": tensor_digest(state)}
    if classifier:
        metadata["classifier_digest"] = tensor_digest(classifier)
    with write_atomic(path) as file:
        file.write(save(kept, metadata))
