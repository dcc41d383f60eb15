"""Combine trained detectors (paper 4.4): suppress their scored windows together, print one mAP.

    python tools/combine_det.py runs/voc07_alexnet runs/voc07_other
    python tools/combine_det.py runs/a@5 runs/b@1 --data.root data/synthetic --out runs/a_and_b
    python tools/combine_det.py runs/a@5 runs/b@1 --weights '[1,2]'            # scores averaged
    python tools/combine_det.py runs/a/test_test_5scales/fc6+bb runs/b      # one of several tests

First test each run on the same split (tools/test_det.py), at --scales or at the number of scales
after ``@``. This command reads the candidates that the tests kept; no network runs. If tests of a
run kept different candidates (another layer, other windows), name the folder of one test.
Suppression has its default limits, whatever limits the tests had. Result files, results.json and
report.html go to --out. The last line printed is the mAP. ``--csv FILE`` adds a row to a table:
the runs, the combination's mAP and APs, the best run's mAP.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from commands.cli import WordsParser, run_tool, with_progress
from commands.tested_runs import RESULTS, RunTest, read_test
from detection import config
from detection.data.reading import LISTS, read_dataset
from detection.data.records import Dataset
from detection.detections import Detections
from detection.evaluation.average_precision import VOCResult
from detection.evaluation.coco_map import coco_ap50
from detection.evaluation.comp4 import from_images, write_comp4
from detection.evaluation.report import ap_columns, format_table, put_row, save_result
from detection.evaluation.voc_ap import ClassDetections, evaluate_voc
from detection.inference.combination import combine, same_classes
from detection.inference.postprocess import Suppression
from detection.inference.testing import load_candidates
from detection.machine import environment
from detection.pages.detection_report import NAME, write_report
from detection.pages.outcomes import Shown
from detection.settings.data import Split
from files.writing import refuse_folders


def main(
    runs: list[str],
    data: Split = Split(),  # noqa: B008 - frozen
    scales: Literal[1, 5] = 5,
    out: str = "runs/combined",
    csv: Path | None = None,
    limit: int | None = None,
    vote_iou: float | None = None,
    weights: list[float] | None = None,
) -> None:
    """Combine the detectors of several runs; the last line is the mAP.

    Args:
        runs: folders of runs that were tested on the split, or of single tests.
        data: annotations.
        scales: number of scales of the tests, for runs without ``@``.
        out: folder for the result files and results.json; must not be one of the runs' folders.
        csv: table to which the result is added; created if missing.
        limit: use only the first so many images of the split.
        vote_iou: box voting by all models' boxes that overlap a detection by this much; see
            --detection.vote_iou of a test. Without it no voting, as in the paper.
        weights: weights of the runs, in their order, to average scores and boxes of each window;
            without weights the union is taken, as in the paper. Averaging helps only if the runs
            were tested on the same windows.
    """
    refuse_folders([csv])
    place = config.Data(root=data.root, test_split=data.split)
    tests = [read_test(run, scales, place) for run in runs]
    classes = same_classes({run: test.classes for run, test in zip(runs, tests, strict=True)})
    check_out(Path(out), tests)
    # The first test or training kept the lists of a split by content.
    dataset = read_dataset(data, data.split, classes=classes, limit=limit, kept=tests[0].run)
    for test in tests:
        dataset = dataset.without(test.unreadable(dataset.records))
    found, *alone = combine_split(tests, dataset, vote_iou, weights)
    by_class = from_images(found, classes)
    result = evaluate_voc(by_class, dataset.records, classes)
    ap50 = coco_ap50(by_class, dataset.records, classes)
    singles = [evaluated(own, dataset).map for own in alone]

    facts = {
        **facts_of(tests, singles, dataset),
        "test_split": data.split,
        "data": asdict(where_it_lies(data, tests[0])),
        "limit": limit,
        "vote_iou": vote_iou,
        "weights": weights,
        "ap50_pycocotools": ap50,
    }
    write_comp4(out, data.split, found, classes)
    save_result(Path(out) / RESULTS, result, facts)
    report(Path(out), tests, by_class, dataset, result, facts)
    if csv is not None:
        split = data.split + (f":{limit}" if limit else "")
        names = [test.name for test in tests]
        row = row_of(names, singles, split, result, vote_iou, weights)
        put_row(csv, row, ["runs", "test_split"])
    for test, value in zip(tests, singles, strict=True):
        print(f"{test.name} alone: mAP {value:.4f}")
    print(f"result files, results.json and {NAME} are in {out}")
    print(format_table(result, ap50))


def report(
    out: Path,
    tests: Sequence[RunTest],
    by_class: Mapping[str, ClassDetections],
    dataset: Dataset,
    result: VOCResult,
    facts: Mapping[str, Any],
) -> None:
    """Write the page of the tests' combination."""
    write_report(
        out / NAME,
        title=f"{' + '.join(test.name for test in tests)} on {facts['test_split']}",
        records=dataset.records,
        shown=Shown.raw(by_class, dataset.records, dataset.classes),
        result=result,
        facts=facts,
        settings={
            "runs": facts["runs"],
            "vote_iou": facts["vote_iou"],
            "weights": facts["weights"],
        },
    )


def facts_of(tests: list[RunTest], singles: list[float], dataset: Dataset) -> dict[str, Any]:
    """Facts for results.json: command, machine, the runs and their own mAP, images."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "command": " ".join(sys.argv),
        "runs": [test.facts | {"map": own} for test, own in zip(tests, singles, strict=True)],
        "unreadable": sorted(dataset.unreadable),
        "classes": list(dataset.classes),
        "images": len(dataset.records),
        "environment": environment(),
    }


def evaluated(found: Mapping[str, Detections], dataset: Dataset) -> VOCResult:
    """VOC's metric of the detections in a split's images."""
    classes = dataset.classes
    return evaluate_voc(from_images(found, classes), dataset.records, classes)


def where_it_lies(data: Split, test: RunTest) -> Split:
    """The split, with the run's lists if it was split by content, for readers without the run."""
    lists = test.run / LISTS
    return replace(data, lists=str(lists)) if data.lists is None and lists.is_dir() else data


def row_of(
    names: Sequence[str],
    singles: Sequence[float],
    split: str,
    result: VOCResult,
    vote_iou: float | None,
    weights: Sequence[float] | None,
) -> dict[str, Any]:
    """The table's row of a combination of these tests; ``singles`` are their own mAPs."""
    voting = "" if vote_iou is None else f", voting at {vote_iou:g}"
    mean = "" if weights is None else f", averaged {':'.join(f'{each:g}' for each in weights)}"
    row = {
        "runs": " + ".join(names) + voting + mean,
        "test_split": split,
        "map": round(result.map, 4),
        "best_single_map": round(max(singles), 4),
    }
    return row | ap_columns(result, row)


def check_out(out: Path, tests: Sequence[RunTest]) -> None:
    """Refuse to write into a folder that is read.

    Raises:
        ValueError: the folder is a run's, or among the files of its tests.
    """
    for test in tests:
        read = test.candidates.parent.resolve()
        if out.resolve() == test.run.resolve() or out.resolve().is_relative_to(read):
            raise ValueError(
                f"--out {out} is among the files of run {test.run}; name another folder"
            )


def combine_split(
    tests: Sequence[RunTest],
    dataset: Dataset,
    vote_iou: float | None,
    weights: Sequence[float] | None,
) -> list[dict[str, Detections]]:
    """Detections in every image of a split, by image id: of all runs together, then of each.

    Raises:
        DamagedArtefact: a file of candidates is damaged.
    """
    found: list[dict[str, Detections]] = [{} for _ in range(1 + len(tests))]
    for record in with_progress(dataset.records, "combination", len(dataset.records)):
        models = [load_candidates(test.candidates, record) for test in tests]
        parts = [(models, weights), *(([model], None) for model in models)]
        for place, (chosen, shares) in zip(found, parts, strict=True):
            place[record.image_id] = combine(
                chosen, record.size, dataset.classes, Suppression(vote_iou=vote_iou), weights=shares
            )
    return found


def run() -> None:
    """Call ``main`` with the flags of the command line."""
    run_tool(main, parser_class=WordsParser)
