"""Combine trained detectors (paper 4.4): their scored windows suppressed together, one mAP.

    python tools/combine_det.py runs/voc07_alexnet runs/voc07_other
    python tools/combine_det.py runs/a runs/b --data.root data/drawn --out runs/a_and_b

Each run was tested before on the same split, at the same number of scales (tools/test_det.py); the
candidates it kept are read, and no network runs. Suppression has its default limits, whatever the
runs were tested with. Result files and results.json go to --out. The last line printed is the mAP.
"""

import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from _cli import WordsParser, run_tool, with_progress

from detection import config
from detection.data.records import Dataset, ImageRecord
from detection.data.voc import read_voc
from detection.detections import Detections
from detection.evaluation.coco_map import coco_ap50
from detection.evaluation.comp4 import from_images, write_comp4
from detection.evaluation.report import format_table, save_result
from detection.evaluation.voc_ap import evaluate_voc
from detection.inference.combination import combine, same_classes
from detection.inference.postprocess import Candidates
from detection.inference.testing import candidates_file, results_folder
from detection.run import Run, environment


@dataclass(frozen=True)
class Data:
    """Ground truth in VOC's layout.

    Attributes:
        root: the folder with Annotations, JPEGImages and ImageSets, or the VOCdevkit above it.
        test_split: name of the list in ImageSets/Main that the runs were tested on.
    """

    root: str = "data/VOCdevkit"
    test_split: str = "test"


@dataclass(frozen=True)
class RunTest:
    """A run's test of a split, as tools/test_det.py left it.

    Attributes:
        run: the run's folder.
        candidates: folder with one file a picture.
        classes: names of the K classes, in the order of the labels.
        trained: what the run was trained on, for the record.
        command: makes the test.
    """

    run: str
    candidates: Path
    classes: tuple[str, ...]
    trained: Mapping[str, Any]
    command: str

    def path_of(self, record: ImageRecord) -> Path:
        """The file of the run's candidates in a picture.

        Raises:
            FileNotFoundError: the run has none of this picture.
        """
        path = candidates_file(self.candidates, record)
        if not path.is_file():
            raise FileNotFoundError(
                f"run {self.run} has no candidates of picture {record.image_id} at {path}; "
                f"make them with: {self.command}"
            )
        return path


def main(
    runs: list[str],
    data: Data = Data(),
    scales: Literal[1, 5] = 5,
    out: str = "runs/combined",
    limit: int | None = None,
) -> None:
    """Combine the detectors of several runs; the last line is the mAP.

    Args:
        runs: folders of the runs, tested on the split before.
        data: annotations.
        scales: the number of scales the runs were tested at.
        out: folder for the result files and results.json.
        limit: use the first so many pictures of the split only.
    """
    tests = [read_test(run, data, scales) for run in runs]
    classes = same_classes({test.run: test.classes for test in tests})
    dataset = read_voc(data.root, data.test_split, classes=classes, limit=limit)
    found = combine_split(tests, dataset)
    by_class = from_images(found, classes)
    result = evaluate_voc(by_class, dataset.records, classes)
    ap50 = coco_ap50(by_class, dataset.records, classes)

    write_comp4(out, data.test_split, found, classes)
    facts = {
        "date": time.strftime("%Y-%m-%d"),
        "command": " ".join(sys.argv),
        "runs": [
            {"run": test.run, "candidates": test.candidates.name, "trained": test.trained}
            for test in tests
        ],
        "scales": scales,
        "test_split": data.test_split,
        "pictures": len(dataset.records),
        "ap50_pycocotools": ap50,
        "environment": environment(),
    }
    save_result(Path(out) / "results.json", result, facts)
    print(f"result files and results.json are in {out}")
    print(format_table(result, ap50))


def read_test(run: str, data: Data, scales: Literal[1, 5]) -> RunTest:
    """Find a run's finished test of a split.

    Raises:
        FileNotFoundError: no such run, or it was not tested on the split at so many scales.
        ValueError: its results.json does not say where its candidates lie, or they are softmax's.
    """
    if not Path(run).is_dir():
        raise FileNotFoundError(f"no run at {run}; python tools/train_det.py makes one")
    split = config.Data(test_split=data.test_split)
    path = results_folder(Run(config.Config(run=run, scales=scales, data=split))) / "results.json"
    words = ["python", "tools/test_det.py", "--run", run, "--data.root", data.root]
    words += ["--data.test_split", data.test_split, "--scales", str(scales)]
    command = shlex.join(words)
    if not path.is_file():
        raise FileNotFoundError(f"run {run} has no test at {path}; make it with: {command}")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        folder = path.parent / facts["candidates"]
        if facts.get("layer") == "softmax":
            raise ValueError("it scores by softmax, whose scores are not those of SVMs")
        return RunTest(run, folder, tuple(facts["classes"]), facts["trained"], command)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} does not name its candidates, classes and training ({error!r}); "
            f"make it again with: {command}"
        ) from error


def combine_split(tests: Sequence[RunTest], dataset: Dataset) -> dict[str, Detections]:
    """Detections of all runs together in every picture of a split, by image id.

    Raises:
        FileNotFoundError: a run has no candidates of a picture; nothing is combined then.
        ValueError: a file of candidates is damaged.
    """
    records = dataset.records
    paths = [[test.path_of(record) for test in tests] for record in records]
    found = {}
    pairs = zip(records, paths, strict=True)
    for record, files in with_progress(pairs, "combination", len(records)):
        candidates = [Candidates.load(path) for path in files]
        found[record.image_id] = combine(candidates, record.size, dataset.classes)
    return found


if __name__ == "__main__":
    run_tool(main, parser_class=WordsParser)
