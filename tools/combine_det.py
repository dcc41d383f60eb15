"""Combine trained detectors (paper 4.4): their scored windows suppressed together, one mAP.

    python tools/combine_det.py runs/voc07_alexnet runs/voc07_other
    python tools/combine_det.py runs/a@5 runs/b@1 --data.root data/drawn --out runs/a_and_b
    python tools/combine_det.py runs/a@5 runs/b@1 --weights '[1,2]'            # scores averaged
    python tools/combine_det.py runs/a@5 runs/b@1 --choose_weights true --data.test_split held_back

Each run was tested before on the same split (tools/test_det.py), at --scales or at the number of
scales after ``@``; the candidates it kept are read, and no network runs. Suppression has its
default limits, whatever the runs were tested with. Result files and results.json go to --out. The
last line printed is the mAP.
``--csv FILE`` puts a row into a table: the runs, the combination's mAP and APs, the best run's mAP.
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
from detection.evaluation.report import format_table, put_row, save_result
from detection.evaluation.voc_ap import VOCResult, evaluate_voc
from detection.inference.combination import combine, same_classes, weightings
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
        scales: the number of scales it was tested at.
        candidates: folder with one file a picture.
        classes: names of the K classes, in the order of the labels.
        trained: what the run was trained on, for the record.
        command: makes the test.
    """

    run: str
    scales: int
    candidates: Path
    classes: tuple[str, ...]
    trained: Mapping[str, Any]
    command: str

    @property
    def name(self) -> str:
        """For tables: ``voc07_alexnet@5``."""
        return f"{Path(self.run).name}@{self.scales}"

    @property
    def facts(self) -> dict[str, Any]:
        """For results.json."""
        return {
            "run": self.run,
            "candidates": self.candidates.name,
            "trained": self.trained,
            "scales": self.scales,
        }

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
    csv: Path | None = None,
    limit: int | None = None,
    vote_iou: float | None = None,
    weights: list[float] | None = None,
    choose_weights: bool = False,
) -> None:
    """Combine the detectors of several runs; the last line is the mAP.

    Args:
        runs: folders of the runs, tested on the split before.
        data: annotations.
        scales: the number of scales that runs named without one were tested at.
        out: folder for the result files and results.json.
        csv: table to put the result into; made with its header if missing.
        limit: use the first so many pictures of the split only.
        vote_iou: all models' boxes that overlap a detection by this vote on its box, as
            --detection.vote_iou of a test; none vote by default, as in the paper.
        weights: of the runs, in their order: scores and boxes of the same windows are averaged;
            without them the union is taken, as in the paper. To gain by it the runs must have
            been tested on the same windows.
        choose_weights: try the weights 1, 2 and 3 of each run and take those of the highest mAP.
            The split should be one that no run was trained on and no table is about.
    """
    tests = [read_test(*with_scales(run, scales), data) for run in runs]
    classes = same_classes({test.run: test.classes for test in tests})
    dataset = read_voc(data.root, data.test_split, classes=classes, limit=limit)
    if choose_weights:
        weights = best_weights(tests, dataset, vote_iou)
    found, *alone = combine_split(tests, dataset, vote_iou, weights)
    result = evaluated(found, dataset)
    ap50 = coco_ap50(from_images(found, classes), dataset.records, classes)
    singles = {
        test.name: evaluated(own, dataset).map for test, own in zip(tests, alone, strict=True)
    }

    write_comp4(out, data.test_split, found, classes)
    facts = {
        "date": time.strftime("%Y-%m-%d"),
        "command": " ".join(sys.argv),
        "runs": [test.facts | {"map": singles[test.name]} for test in tests],
        "test_split": data.test_split,
        "pictures": len(dataset.records),
        "vote_iou": vote_iou,
        "weights": weights,
        "ap50_pycocotools": ap50,
        "environment": environment(),
    }
    save_result(Path(out) / "results.json", result, facts)
    if csv is not None:
        split = data.test_split + (f":{limit}" if limit else "")
        put_row(csv, row_of(singles, split, result, vote_iou, weights), ["runs", "test_split"])
    for run, value in singles.items():
        print(f"{run} alone: mAP {value:.4f}")
    print(f"result files and results.json are in {out}")
    print(format_table(result, ap50))


def evaluated(found: Mapping[str, Detections], dataset: Dataset) -> VOCResult:
    """VOC's metric of the detections in a split's pictures."""
    classes = dataset.classes
    return evaluate_voc(from_images(found, classes), dataset.records, classes)


def row_of(
    singles: Mapping[str, float],
    split: str,
    result: VOCResult,
    vote_iou: float | None,
    weights: Sequence[float] | None,
) -> dict[str, Any]:
    """The table's row of a combination; ``singles`` are the runs' own mAPs."""
    voting = "" if vote_iou is None else f", voting at {vote_iou:g}"
    mean = "" if weights is None else f", averaged {':'.join(f'{each:g}' for each in weights)}"
    return {
        "runs": " + ".join(singles) + voting + mean,
        "test_split": split,
        "map": round(result.map, 4),
        "best_single_map": round(max(singles.values()), 4),
    } | {name: round(one.ap, 4) for name, one in result.per_class.items()}


def with_scales(word: str, scales: Literal[1, 5]) -> tuple[str, Literal[1, 5]]:
    """A run's folder and number of scales, of ``runs/a``, ``runs/a@1`` or ``runs/a@5``."""
    if word.endswith("@1"):
        return word.removesuffix("@1"), 1
    if word.endswith("@5"):
        return word.removesuffix("@5"), 5
    return word, scales


def read_test(run: str, scales: Literal[1, 5], data: Data) -> RunTest:
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
        return RunTest(run, scales, folder, tuple(facts["classes"]), facts["trained"], command)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} does not name its candidates, classes and training ({error!r}); "
            f"make it again with: {command}"
        ) from error


def combine_split(
    tests: Sequence[RunTest],
    dataset: Dataset,
    vote_iou: float | None,
    weights: Sequence[float] | None,
) -> list[dict[str, Detections]]:
    """Detections in every picture of a split, by image id: of all runs together, then of each.

    Raises:
        FileNotFoundError: a run has no candidates of a picture; nothing is combined then.
        ValueError: a file of candidates is damaged.
    """
    records = dataset.records
    paths = [[test.path_of(record) for test in tests] for record in records]
    found: list[dict[str, Detections]] = [{} for _ in range(1 + len(tests))]
    pairs = zip(records, paths, strict=True)
    for record, files in with_progress(pairs, "combination", len(records)):
        models = [Candidates.load(path) for path in files]
        parts = [(models, weights), *(([model], None) for model in models)]
        for place, (chosen, shares) in zip(found, parts, strict=True):
            place[record.image_id] = combine(
                chosen, record.size, dataset.classes, vote_iou=vote_iou, weights=shares
            )
    return found


def best_weights(tests: Sequence[RunTest], dataset: Dataset, vote_iou: float | None) -> list[float]:
    """The weights of ``weightings`` with the highest mAP on a split; prints all, best first."""
    models = [
        [Candidates.load(test.path_of(record)) for test in tests] for record in dataset.records
    ]
    choices = weightings(len(tests))
    values = {}
    for weights in with_progress(choices, "weights", len(choices)):
        found = {
            record.image_id: combine(
                each, record.size, dataset.classes, vote_iou=vote_iou, weights=weights
            )
            for record, each in zip(dataset.records, models, strict=True)
        }
        values[weights] = evaluated(found, dataset).map
    ranked = sorted(choices, key=lambda weights: -values[weights])
    for weights in ranked:
        print(f"weights {','.join(map(str, weights))}: mAP {values[weights]:.4f}")
    return [float(each) for each in ranked[0]]


if __name__ == "__main__":
    run_tool(main, parser_class=WordsParser)
