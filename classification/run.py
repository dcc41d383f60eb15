"""The run folder of a classifier's training."""

from pathlib import Path
from typing import Any, cast

from classification.config import Config
from detection.run import Progress, Run, silent


class ClassifierRun(Run):
    """The run folder of a classifier's training."""

    def __init__(self, config: Config, command: str = "", progress: Progress = silent) -> None:
        # ``Run`` uses only settings that detectors and classifiers both have.
        super().__init__(cast(Any, config), command, progress)

    @property
    def cache(self) -> Path:
        """The run folder itself: classifiers have no separate cache."""
        return self.folder

    @property
    def product(self) -> Path:
        """The classifier's file."""
        return self.classifier_path

    @property
    def classifier_path(self) -> Path:
        """The file of the trained classifier."""
        return self.folder / "classifier.safetensors"
