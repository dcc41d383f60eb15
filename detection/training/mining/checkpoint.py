"""The checkpoint of mining: what the miners hold after so many images."""

import logging
from pathlib import Path

from detection.training.mining.hard_negatives import HardNegativeMiner
from files.artefacts import read_checkpoint, strip_prefix, write_artefact

logger = logging.getLogger(__name__)


def save(path: Path, key: str, done: int, miners: dict[str, HardNegativeMiner]) -> None:
    """Write what the miners hold after ``done`` images, whole or not at all."""
    arrays = {
        f"{layer}.{name}": value
        for layer, miner in miners.items()
        for name, value in miner.state().items()
    }
    write_artefact(path, key, arrays, {"images": done})


def resume(path: Path, key: str, miners: dict[str, HardNegativeMiner]) -> int:
    """Load a checkpoint of the same mining, if there is one; returns the images already done.

    Raises:
        DamagedArtefact: the file is not whole.
        ValueError: it is of other settings or positives.
    """
    if (found := read_checkpoint(path, key)) is None:
        return 0
    try:
        for layer, miner in miners.items():
            miner.load_state(strip_prefix(found.arrays, f"{layer}."))
    except ValueError as error:
        raise ValueError(f"{path} cannot be resumed: {error}") from error
    done = int(found.facts["images"])
    logger.info("SVMs resume at image %d", done)
    return done
