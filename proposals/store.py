"""Windows on disk: one artefact per image, made once and found by the image's bytes."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from joblib import delayed
from numpy.typing import NDArray

from files.artefacts import read_artefact, write_artefact
from files.images import UnreadableImage, read_image
from files.names import content_key, short_name
from files.writing import content_digest, save_text
from proposals.methods import union

ARRAY = "windows"

# Runs joblib's ``delayed`` jobs, here or elsewhere, and yields their results.
Pool = Callable[[Iterable[tuple[Callable, tuple, dict]]], Iterable[Any]]


class WindowMethod(Protocol):
    """A way to make windows, as a store needs it."""

    @property
    def name(self) -> str:
        """Name of the method and of its folder."""

    @property
    def key(self) -> str:
        """Key that changes whenever the same image could give other windows."""

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Windows ``(P, 4)`` float32, P at least 1, of an RGB uint8 image ``(H, W, 3)``."""


class Windows(Protocol):
    """Reads windows of images: a store, a union of stores, or a file of windows made elsewhere."""

    @property
    def method(self) -> WindowMethod:
        """The method that made the windows; its name and key identify them."""

    def load(self, image: str | Path) -> NDArray[np.float32]:
        """Windows ``(P, 4)`` float32 of the image at a path."""


class WindowStore:
    """Windows of images by one method, cached under a folder.

    A file of windows is named by the image's file name and the SHA-256 of its bytes: an edited
    image gets new windows, a moved image keeps its windows. Each file is written completely or not
    at all. So filling a store can be killed at any point and resumed, and several programs can fill
    a store at once.

    Args:
        cache: folder of all caches; created at the first write.
        method: makes the windows; its name and key name the store's own folder.

    Attributes:
        folder: ``cache/windows/<name>-<key>``.
        seconds: processor time of each image that this object computed, in seconds of one core.
    """

    def __init__(self, cache: str | Path, method: WindowMethod) -> None:
        self.method = method
        self._key = method.key
        self.folder = Path(cache) / "windows" / f"{method.name}-{self._key}"
        self.seconds: dict[Path, float] = {}

    def path_for(self, image: str | Path) -> Path:
        """The file of an image's windows, which may not exist yet.

        Raises:
            FileNotFoundError: no such image.
        """
        return self._place(Path(image))[0]

    def load(self, image: str | Path) -> NDArray[np.float32]:
        """Windows ``(P, 4)`` float32 of an image, half-open pixels, in the method's order.

        Raises:
            FileNotFoundError: no such image, or its windows have not been computed.
            DamagedArtefact: the file of its windows is damaged, or belongs to another image.
        """
        path, key = self._place(Path(image))
        if not path.is_file():
            raise FileNotFoundError(
                f"no windows of {image} at {path}; make them with tools/make_proposals.py and "
                "the same parameters"
            )
        return read_artefact(path, key).arrays[ARRAY]

    def missing(self, images: Iterable[str | Path]) -> list[Path]:
        """The images without windows, in the given order, each path once.

        Raises:
            FileNotFoundError: one of the images does not exist.
        """
        found = {Path(image): self.path_for(image) for image in images}
        return [image for image, path in found.items() if not path.is_file()]

    def compute(
        self, images: Iterable[str | Path], pool: Pool | None = None
    ) -> Iterator[tuple[Path, UnreadableImage | None]]:
        """Make the missing windows, and yield each image when its file is written.

        Images with windows are skipped. Images are yielded in the order of completion, on which
        the files do not depend.

        Args:
            images: paths of images.
            pool: runs joblib's ``delayed`` jobs and yields their results as they come, such as
                ``Parallel(4, return_as="generator_unordered")``. Without a pool, this process does
                the work.

        Yields:
            The image, and None. If the image cannot be read, the reason instead of None; it then
            has no windows.

        Raises:
            FileNotFoundError: an image does not exist.
        """
        missing = self.missing(images)
        if not missing:
            return
        save_text(self.folder / "method.txt", f"{self.method}\n")
        jobs = (delayed(_compute_one)(self.method, image, *self._place(image)) for image in missing)
        for image, seconds, failure in (pool or _in_turn)(jobs):
            if failure is None:
                self.seconds[image] = seconds
            yield image, failure

    def _place(self, image: Path) -> tuple[Path, str]:
        """The file of an image's windows, and the key of its content."""
        if not image.is_file():
            raise FileNotFoundError(f"no image at {image}")
        digest = content_digest(image)
        name = short_name(image.name, digest[:16])
        key = content_key({"method": self._key, "image": digest})
        return self.folder / f"{name}.safetensors", key


class WindowUnion:
    """The windows of several stores together.

    Args:
        stores: filled stores.
        method: makes the same windows in one call; its key identifies the union.
    """

    def __init__(self, stores: Sequence[WindowStore], method: WindowMethod) -> None:
        self.stores = tuple(stores)
        self.method = method

    def load(self, image: str | Path) -> NDArray[np.float32]:
        """Windows ``(P, 4)`` of an image; errors as ``WindowStore.load``."""
        return union([store.load(image) for store in self.stores])


def _in_turn(jobs: Iterable[tuple[Callable, tuple, dict]]) -> Iterable[Any]:
    return (job(*words, **named) for job, words, named in jobs)


def _compute_one(
    method: WindowMethod, image: Path, path: Path, key: str
) -> tuple[Path, float, UnreadableImage | None]:
    """Write one image's windows; returns the image, the processor time in seconds and any error."""
    try:
        pixels = read_image(image)
    except UnreadableImage as failure:
        return image, 0.0, failure
    start = time.process_time()
    windows = method(pixels)
    seconds = time.process_time() - start
    write_artefact(path, key, {ARRAY: windows})
    return image, seconds, None
