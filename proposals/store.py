"""Windows on disk: one ``.npy`` a picture, made once, found again by the picture's own bytes."""

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from proposals.disk import file_digest, read_picture, save_array, save_text
from proposals.methods import union


class WindowMethod(Protocol):
    """What a store needs of a way to make windows: a name, a key and the making."""

    @property
    def name(self) -> str:
        """Names the method's folder."""

    @property
    def key(self) -> str:
        """Changes whenever the same image could give other windows."""

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Windows ``(P, 4)`` float32, P at least 1, of an RGB uint8 image ``(H, W, 3)``."""


class Windows(Protocol):
    """What reads windows of pictures: a store, a union of stores, or a file of others' windows."""

    @property
    def method(self) -> WindowMethod:
        """What made the windows; its name and key are theirs."""

    def load(self, picture: str | Path) -> NDArray[np.float32]:
        """Windows ``(P, 4)`` float32 of a picture."""


class WindowStore:
    """Windows of pictures by one method, cached under a folder.

    A result is named by the picture's stem and the SHA-256 of its bytes: an edited picture gets
    new windows, a moved one keeps its own. Each file is written whole or not at all by the process
    that made it, so a store can be killed at any point, filled again, and filled by several
    programs at once.

    Args:
        cache: folder of all caches; made when something is first written.
        method: makes the windows; its name and key name the store's own folder.

    Attributes:
        folder: ``cache/windows/<name>-<key>``.
        seconds: processor time in seconds, on one core, of each picture that this object computed.
    """

    def __init__(self, cache: str | Path, method: WindowMethod) -> None:
        self.method = method
        self.folder = Path(cache) / "windows" / f"{method.name}-{method.key}"
        self.seconds: dict[Path, float] = {}

    def path_for(self, picture: str | Path) -> Path:
        """The file that holds, or will hold, the windows of a picture.

        Raises:
            FileNotFoundError: no such picture.
        """
        picture = Path(picture)
        if not picture.is_file():
            raise FileNotFoundError(f"no picture at {picture}")
        return self.folder / f"{picture.stem}-{file_digest(picture)[:16]}.npy"

    def load(self, picture: str | Path) -> NDArray[np.float32]:
        """Windows ``(P, 4)`` float32 of a picture, half-open pixels, in the method's order.

        Raises:
            FileNotFoundError: no such picture, or its windows have not been computed.
            ValueError: the file of its windows is not a whole ``(P, 4)`` float32 array.
        """
        path = self.path_for(picture)
        if not path.is_file():
            raise FileNotFoundError(
                f"no windows of {picture} at {path}; make them with tools/make_proposals.py and "
                "the same parameters"
            )
        with path.open("rb") as file:
            try:
                windows = np.lib.format.read_array(file, allow_pickle=False)
            except ValueError as error:
                raise ValueError(_refusal(path, str(error))) from error
        if windows.dtype != np.float32 or windows.ndim != 2 or windows.shape[1] != 4:
            raise ValueError(_refusal(path, f"{windows.dtype} of shape {windows.shape}"))
        return windows

    def missing(self, pictures: Iterable[str | Path]) -> list[Path]:
        """The pictures without a result, in the order given, each content once.

        Raises:
            FileNotFoundError: one of the pictures does not exist.
        """
        return list(self._missing_files(pictures).values())

    def _missing_files(self, pictures: Iterable[str | Path]) -> dict[Path, Path]:
        """The files to be made, each with the first picture of that content."""
        wanted: dict[Path, Path] = {}
        for picture in pictures:
            wanted.setdefault(self.path_for(picture), Path(picture))
        return {path: picture for path, picture in wanted.items() if not path.is_file()}

    def compute(self, pictures: Iterable[str | Path], workers: int = 1) -> Iterator[Path]:
        """Make the missing windows, and yield each picture when its file is in place.

        What exists is left alone and not yielded. The order of the pictures yielded is that of
        their completion; the files do not depend on it.

        Args:
            pictures: paths of pictures.
            workers: number of processes, 1 or more; with 1 the work is done in this process.

        Raises:
            FileNotFoundError: a picture does not exist.
            ValueError: a picture cannot be read (the message names it), or ``workers`` is under 1.
                Windows finished before stay in the store.
        """
        if workers < 1:
            raise ValueError(f"workers must be 1 or more, got {workers}")
        missing = self._missing_files(pictures)
        if not missing:
            return
        save_text(self.folder / "method.txt", f"{self.method}\n")
        parallel = Parallel(n_jobs=workers, return_as="generator_unordered")
        jobs = (delayed(_compute_one)(self.method, *each) for each in missing.items())
        for picture, seconds in parallel(jobs):
            self.seconds[picture] = seconds
            yield picture


class WindowUnion:
    """The windows of several stores together; each keeps its own.

    Args:
        stores: filled ones.
        method: what gives the same windows at once; its key names the union.
    """

    def __init__(self, stores: Sequence[WindowStore], method: WindowMethod) -> None:
        self.stores = tuple(stores)
        self.method = method

    def load(self, picture: str | Path) -> NDArray[np.float32]:
        """Windows ``(P, 4)`` of a picture; errors as ``WindowStore.load``."""
        return union([store.load(picture) for store in self.stores])


def _compute_one(method: WindowMethod, path: Path, picture: Path) -> tuple[Path, float]:
    """Write one picture's windows; the picture and the processor time its windows took."""
    image = read_picture(picture)
    start = time.process_time()
    windows = method(image)
    seconds = time.process_time() - start
    save_array(path, windows)
    return picture, seconds


def _refusal(path: Path, found: str) -> str:
    return (
        f"{path} does not hold windows: expected a whole .npy of float32 (P, 4), got {found}; "
        "delete it and run again"
    )
