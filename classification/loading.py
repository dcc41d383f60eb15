"""Batches of images, read by other processes; a view depends only on seed, epoch and image."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from classification.augmentation import centre_view, cut, draw_view, resize_shorter
from classification.config import Config
from classification.folder import LabelledImages
from classification.sizes import size_of_epoch
from files.images import UnreadableImage, read_image

# Given instead of an epoch for tests: the centre crop without augmentation.
CENTRE = -1


class Example(NamedTuple):
    """One image: ``pixels (S, S, 3)`` uint8, ``shift (3,)`` float32 in RGB, and its label."""

    pixels: NDArray[np.uint8]
    shift: NDArray[np.float32]
    label: int


class Batch(NamedTuple):
    """The images of one step.

    Attributes:
        pixels: ``(B, S, S, 3)`` uint8, RGB.
        shifts: ``(B, 3)`` float32, to be added to the pixels.
        labels: ``(B,)`` int64.
        skipped: by name, why an image is left out.
        lost: error of the system, not of an image; skipping the image would change the training.
    """

    pixels: Tensor
    shifts: Tensor
    labels: Tensor
    skipped: dict[str, str]
    lost: OSError | None


class Examples(Dataset):
    """Views of a split's images by (epoch, row); keeps up to ``keep_bytes`` of resized images."""

    def __init__(self, images: LabelledImages, config: Config, keep_bytes: float) -> None:
        self.images = images
        self.config = config
        self._left = keep_bytes
        self._kept: dict[int, NDArray[np.uint8]] = {}

    def __getitem__(self, place: tuple[int, int]) -> Example | tuple[str, Exception]:
        """The view of an image in an epoch, or its name and the error if it cannot be read."""
        epoch, row = place
        settings, seed = self.config.training, self.config.seed
        try:
            pixels = self._resized(row)
        except (UnreadableImage, OSError) as error:
            return self.images.names[row], error
        height, width = pixels.shape[:2]
        size = settings.crop
        if epoch == CENTRE:
            view = centre_view(height, width, settings.crop)
        else:
            size = size_of_epoch(settings, seed, epoch)
            rng = np.random.default_rng([seed, 0, epoch, row])
            view = draw_view(rng, height, width, settings)
        region = cut(pixels, view, settings.crop, size)
        return Example(region, view.shift, int(self.images.labels[row]))

    def _resized(self, row: int) -> NDArray[np.uint8]:
        if row in self._kept:
            return self._kept[row]
        pixels = resize_shorter(read_image(self.images.path(row)), self.config.data.shorter_side)
        if pixels.nbytes <= self._left:
            self._left -= pixels.nbytes
            self._kept[row] = pixels
        return pixels


def joined_batch(found: Sequence[Example | tuple[str, Exception]]) -> Batch:
    """The batch of the images that could be read."""
    examples = [each for each in found if isinstance(each, Example)]
    errors = dict(each for each in found if not isinstance(each, Example))
    lost = [
        error
        for error in errors.values()
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
    ]
    pixels, shifts, labels = zip(*examples, strict=True) if examples else ((), (), ())
    return Batch(
        torch.from_numpy(np.stack(pixels)) if examples else torch.empty((0, 1, 1, 3)),
        torch.from_numpy(np.stack(shifts)) if examples else torch.empty((0, 3)),
        torch.tensor(labels, dtype=torch.int64),
        {name: str(error) for name, error in errors.items()},
        next(iter(lost), None),
    )


def batches_of(
    images: LabelledImages,
    config: Config,
    places: Iterable[list[tuple[int, int]]],
    readers: int,
) -> Iterator[Batch]:
    """A batch for each list of (epoch, row) in ``places``, read ahead by ``readers`` processes.

    Raises:
        OSError: the system failed to read an image.
        UnreadableImage: an image cannot be read, and ``config.strict`` is set.
    """
    examples = Examples(images, config, 1e9 * config.data.keep_gb / max(1, readers))
    loader: DataLoader = DataLoader(
        examples, batch_sampler=places, num_workers=readers, collate_fn=joined_batch
    )
    for batch in loader:
        if batch.lost is not None:
            raise batch.lost
        if config.strict and batch.skipped:
            raise UnreadableImage(next(iter(batch.skipped.values())))
        yield batch


def order_of_epoch(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The rows of an epoch's images in training order."""
    return np.random.default_rng([seed, 1, epoch]).permutation(count)


def training_places(
    count: int, config: Config, epochs: range, rank: int, ranks: int
) -> Iterator[list[tuple[int, int]]]:
    """This rank's (epoch, row) of each batch; an epoch's last, incomplete batch is left out."""
    batch = config.training.batch
    for epoch in epochs:
        order = order_of_epoch(count, config.seed, epoch).tolist()
        for start in range(0, count - batch + 1, batch):
            yield [(epoch, row) for row in order[start + rank : start + batch : ranks]]


def test_places(count: int, batch: int, rank: int, ranks: int) -> list[list[tuple[int, int]]]:
    """This rank's (CENTRE, row) in batches; all ranks together test each image once."""
    rows = range(rank, count, ranks)
    return [
        [(CENTRE, row) for row in rows[start : start + batch]]
        for start in range(0, len(rows), batch)
    ]
