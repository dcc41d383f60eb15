"""Results as a table of classes, a JSON file, and rows of a CSV."""

import csv
import io
import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from detection.evaluation.average_precision import VOCResult
from files.text import read_text
from files.writing import save_text

# Shown instead of the average precision of a class without objects.
NO_AP = "-"
# Number of such classes that a table names; it only counts the rest.
NAMED = 8


def format_table(result: VOCResult, ap50: float | None = None) -> str:
    """The result as an aligned table, one line per class, without a final newline.

    The columns are 11-point AP, area AP, and the numbers of objects that are not difficult, of
    detections, of true and of false positives (other detections are ignored). A class without
    objects has ``-`` for its averages, and a line then gives the number of classes in the means.
    The last line is ``mAP`` and the mean 11-point AP to four digits; the means of the other
    averages are above it.

    Args:
        result: from ``evaluate_voc``.
        ap50: pycocotools' AP at overlap 0.5, if it was computed.
    """
    width = max(columns_of(name) for name in ("class", *result.classes))
    header = ("AP", "AP area", "objects", "detections", "tp", "fp")
    lines = [f"{'class':<{width}}" + "".join(f"  {title:>10}" for title in header)]
    for name, one in result.per_class.items():
        values = (one.ap, one.ap_area)
        averages = "".join(
            f"  {NO_AP if value is None else format(value, '.4f'):>10}" for value in values
        )
        counts = "".join(f"  {n:>10}" for n in (one.npos, len(one.scores), one.ntp, one.nfp))
        lines.append(name + " " * (width - columns_of(name)) + averages + counts)
    if result.without_objects:
        lines.append(classes_of_mean(result))
    if ap50 is not None:
        lines.append(f"AP50 (pycocotools) {ap50:.4f}")
    lines.append(f"mAP (area) {result.map_area:.4f}")
    lines.append(f"mAP {result.map:.4f}")
    return "\n".join(lines)


def columns_of(text: str) -> int:
    """Width of a text on a terminal in columns; wide letters, such as Chinese, take two."""
    return len(text) + sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)


def classes_of_mean(result: VOCResult) -> str:
    """A line with the number of classes in a result's means, and the classes without objects."""
    missing = result.without_objects
    rest = len(missing) - NAMED
    names = ", ".join(missing[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
    count = len(result.classes) - len(missing)
    return f"mean over {count} of {len(result.classes)} classes: no objects of {names}"


def ap_columns(result: VOCResult, taken: Iterable[str]) -> dict[str, float | str]:
    """Cells of a CSV's row: each class's 11-point AP to four digits, or ``-`` without objects.

    Args:
        result: from ``evaluate_voc``.
        taken: names of the row's other columns; a class with such a name becomes ``class <name>``.
    """
    taken = set(taken)
    return {
        f"class {name}" if name in taken else name: NO_AP if one.ap is None else round(one.ap, 4)
        for name, one in result.per_class.items()
    }


def format_stages(stages: Mapping[str, Mapping[str, float]], images: int) -> str:
    """A table of each stage's seconds, images per second and peak memory, without a final newline.

    The last line is the sum of the seconds.

    Args:
        stages: from ``detection.events.stage_seconds``.
        images: number of images that each stage processed.
    """
    width = max(len(name) for name in ("in all", *stages))
    lines = [f"{'stage':<{width}}" + f"{'seconds':>10}{'images/s':>12}{'peak MB':>10}"]
    for name, one in stages.items():
        rate = images / max(one["seconds"], 0.1)
        lines.append(
            f"{name:<{width}}{one['seconds']:>10.1f}{rate:>12.2f}{one['peak_memory_mb']:>10.0f}"
        )
    lines.append(f"{'in all':<{width}}{sum(one['seconds'] for one in stages.values()):>10.1f}")
    return "\n".join(lines)


def save_result(path: str | Path, result: VOCResult, extra: Mapping[str, Any]) -> None:
    """Write a result as JSON, atomically and without rounding.

    The file has the facts of ``extra``, ``map``, ``map_area``, and ``per_class``: ``ap``,
    ``ap_area``, ``npos``, ``detections``, ``ntp``, ``nfp`` of each class. The averages of a class
    without objects are null. Curves are left out; they can be computed from the result files.

    Args:
        path: replaced if it exists.
        result: from ``evaluate_voc``.
        extra: facts about the measurement, such as command, date, seconds and machine.

    Raises:
        ValueError: a fact of ``extra`` has the name of one of the result's, or a number is NaN or
            infinite, which JSON does not support.
    """
    content: dict[str, Any] = {
        "map": result.map,
        "map_area": result.map_area,
        "per_class": {
            name: {
                "ap": one.ap,
                "ap_area": one.ap_area,
                "npos": one.npos,
                "detections": len(one.scores),
                "ntp": one.ntp,
                "nfp": one.nfp,
            }
            for name, one in result.per_class.items()
        },
    }
    taken = sorted(set(content) & set(extra))
    if taken:
        raise ValueError(f"facts of a result must not be named {taken}: the result has these names")
    save_text(path, json.dumps({**extra, **content}, indent=2, allow_nan=False) + "\n")


def put_row(path: str | Path, row: Mapping[str, Any], same: Sequence[str]) -> None:
    """Write one row into a CSV; see ``put_rows``."""
    put_rows(path, [row], same)


def put_rows(path: str | Path, rows: Sequence[Mapping[str, Any]], same: Sequence[str]) -> None:
    """Write a measurement's rows into a CSV: they replace its earlier rows, or are appended.

    The file begins with the names of its columns and is created if missing. It is replaced
    atomically, so no reader sees a partial file. Writers wait for each other.

    Args:
        path: the CSV.
        rows: at least one; values by column, in the file's order.
        same: the columns that identify a measurement, with the same values in all rows.

    Raises:
        ValueError: the file's columns are not those of ``rows``, or its rows do not match them.
    """
    path = Path(path)
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=60)
    with suppress(OSError, NotImplementedError):  # no locks on this system, or a writer hangs
        lock.acquire()
    try:
        _put_rows(path, rows, same)
    finally:
        lock.release()


def _rows_of(path: Path, columns: list[str]) -> list[dict[str, str]]:
    """The rows of a CSV with these columns; an empty file has none."""
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    names, rows = reader.fieldnames, list(reader)
    if names not in (None, columns):
        raise ValueError(f"{path} has the columns {names}, expected {columns}")
    if any(None in (*row, *row.values()) for row in rows):
        raise ValueError(f"{path} has rows of more or fewer fields than its header; correct them")
    return rows


def _put_rows(path: Path, rows: Sequence[Mapping[str, Any]], same: Sequence[str]) -> None:
    columns = [str(column) for column in rows[0]]
    own = [{column: str(value) for column, value in row.items()} for row in rows]
    others = _rows_of(path, columns) if path.exists() else []
    before = [n for n, found in enumerate(others) if all(found[c] == own[0][c] for c in same)]
    place = before[0] if before else len(others)
    others = [found for n, found in enumerate(others) if n not in before]
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows([*others[:place], *own, *others[place:]])
    save_text(path, table.getvalue())
