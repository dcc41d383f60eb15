"""The run folder of a classifier's training."""

from pathlib import Path
from typing import Any, cast

from classification.config import Config
from detection.run import Progress, Run, silent


class ClassifierRun(Run):
    """The run folder of a classifier's training."""

    def __init__(self, config: Config, command: str = "", progress: Progress = silent) -> None:
        # The folder asks its settings only for what a detector's and a classifier's both have.
        super().__init__(cast(Any, config), command, progress)

    @property
    def cache(self) -> Path:
        """There is none but the folder."""
        return self.folder

    @property
    def product(self) -> Path:
        """The classifier."""
        return self.classifier_path

    @property
    def classifier_path(self) -> Path:
        """Where the trained classifier lies."""
        return self.folder / "classifier.safetensors"
