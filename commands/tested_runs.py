"""Finished tests of runs, written by tools/test_det.py, that a command line names."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from commands.dispatch import command_of
from detection.config import Config
from detection.data.records import ImageRecord
from detection.inference.testing import candidates_file, results_folder
from detection.run import Run
from detection.settings.data import Data
from files.images import UnreadableImage, read_image
from files.text import read_text

RESULTS = "results.json"


@dataclass(frozen=True)
class RunTest:
    """A run's test of a split, as tools/test_det.py wrote it.

    Attributes:
        name: name for tables: ``voc07_alexnet@5``, or ``voc07_alexnet@5/fc6+bb`` if the folder of
            the test was named.
        run: the run's folder.
        scales: number of scales of the test.
        layer: layer that scored the windows.
        candidates: folder with one file per image.
        classes: names of the K classes, in the order of the labels.
        trained: facts of the training, for results.json.
        command: command that makes the test.
    """

    name: str
    run: Path
    scales: int
    layer: str
    candidates: Path
    classes: tuple[str, ...]
    trained: Mapping[str, Any]
    command: str

    @property
    def facts(self) -> dict[str, Any]:
        """For results.json."""
        return {
            "name": self.name,
            "run": str(self.run),
            "candidates": self.candidates.name,
            "trained": self.trained,
            "scales": self.scales,
        }

    def unreadable(self, records: Sequence[ImageRecord]) -> dict[str, str]:
        """Images that the test left out because they cannot be read: reasons by id.

        Raises:
            FileNotFoundError: another image has no candidates.
        """
        reasons = {}
        for record in records:
            path, _ = candidates_file(self.candidates, record)
            if path.is_file():
                continue
            try:
                read_image(record.path)
            except UnreadableImage as error:
                reasons[record.image_id] = str(error)
                continue
            raise FileNotFoundError(
                f"run {self.run} has no candidates for image {record.image_id} at {path}; "
                f"make them with: {self.command}"
            )
        return reasons


def read_test(word: str, scales: Literal[1, 5], data: Data) -> RunTest:
    """Find a finished test of a split by its run or by its own folder.

    Raises:
        FileNotFoundError: no such run, or it was not tested on the split at this number of scales.
        ValueError: the run's tests kept different candidates, or a results.json does not say where
            they are, or they were scored by softmax.
    """
    folder = Path(word).absolute()
    if (folder / RESULTS).is_file():
        test = test_of(folder, folder.parent.parent, data)
        test = replace(test, name=f"{test.name}/{folder.name}")
    else:
        test = only_test(*with_scales(word, scales), data)
    if test.layer == "softmax":
        raise ValueError(
            f"the test of run {test.run} has scores of softmax, which cannot be combined with "
            f"scores of SVMs; make another with: {test.command} --detection.layer fc7"
        )
    return test


def with_scales(word: str, scales: Literal[1, 5]) -> tuple[str, Literal[1, 5]]:
    """A run's folder and number of scales, from ``runs/a``, ``runs/a@1`` or ``runs/a@5``."""
    if word.endswith("@1"):
        return word.removesuffix("@1"), 1
    if word.endswith("@5"):
        return word.removesuffix("@5"), 5
    return word, scales


def only_test(run: str, scales: Literal[1, 5], data: Data) -> RunTest:
    """A run's test at a number of scales; any of several with the same candidates.

    Tests of softmax are ignored if there are others. Errors as ``read_test``.
    """
    if not Path(run).is_dir():
        raise FileNotFoundError(f"no run at {run}; train one with python tools/train_det.py")
    folder = results_folder(Run(Config(run=run, scales=scales, data=data)))
    places = sorted(path.parent for path in folder.glob(f"*/{RESULTS}"))
    if not places:
        raise FileNotFoundError(
            f"run {run} has no test in {folder}; make it with: {test_command(run, scales, data)}"
        )
    tests = {place: test_of(place, Path(run), data) for place in places}
    tests = {place: test for place, test in tests.items() if test.layer != "softmax"} or tests
    if len({test.candidates for test in tests.values()}) > 1:
        raise ValueError(
            f"the tests of run {run} at {scales} scales kept different candidates; name the folder "
            f"of one test instead of the run: {', '.join(map(str, tests))}"
        )
    return next(iter(tests.values()))


def test_of(folder: Path, run: Path, data: Data) -> RunTest:
    """The test of a run whose results are in a folder.

    Raises:
        ValueError: its results.json lacks facts that a combination needs, or is of another split.
    """
    path = folder / RESULTS
    try:
        facts = json.loads(read_text(path))
        scales, split = int(facts["scales"]), str(facts["test_split"])
        candidates, layer = folder.parent / facts["candidates"], str(facts["layer"])
        classes, trained = tuple(facts["classes"]), facts["trained"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} does not name its candidates, classes and training ({error!r}); run the test "
            "again with tools/test_det.py"
        ) from error
    if split != data.test_split:
        raise ValueError(f"{path} is a test of the split {split}, not of {data.test_split}")
    command, name = test_command(str(run), scales, data), f"{run.resolve().name}@{scales}"
    return RunTest(name, run, scales, layer, candidates, classes, trained, command)


def test_command(run: str, scales: int, data: Data) -> str:
    """The command that tests a run; a special layer or windows need further flags."""
    words = [*command_of("test_det"), "--run", run, "--data.root", data.root]
    return shlex.join([*words, "--data.test_split", data.test_split, "--scales", str(scales)])
