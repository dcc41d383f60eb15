"""Results for people and for files: the per-class table, a JSON file, a row of a CSV."""

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

# Stands for the average precision of a class without objects.
NO_AP = "-"
# Names of such classes that a table lists before it counts the rest.
NAMED = 8


def format_table(result: VOCResult, ap50: float | None = None) -> str:
    """The result as an aligned table, one class a line, without a newline at its end.

    Columns: 11-point AP, area AP, objects that are not difficult, detections, and how many of
    those are true and false positives (the rest is ignored). A class without objects has ``-`` for
    its averages, and a line says over how many classes the means are. The last line is ``mAP`` and
    the mean 11-point AP to four digits; above it stand the means of the other averages.

    Args:
        result: of ``evaluate_voc``.
        ap50: pycocotools' AP at overlap 0.5, when it was computed.
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
    """The columns that a text takes on a terminal: two for each wide letter, as of Chinese."""
    return len(text) + sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)


def classes_of_mean(result: VOCResult) -> str:
    """Over how many classes a result's means are, and which classes have no objects."""
    missing = result.without_objects
    rest = len(missing) - NAMED
    names = ", ".join(missing[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
    count = len(result.classes) - len(missing)
    return f"mean over {count} of {len(result.classes)} classes: no objects of {names}"


def ap_columns(result: VOCResult, taken: Iterable[str]) -> dict[str, float | str]:
    """Cells of a CSV's row: each class's 11-point AP to four digits, ``-`` without objects.

    Args:
        result: of ``evaluate_voc``.
        taken: names of the row's other columns; a class of such a name is ``class <name>``.
    """
    taken = set(taken)
    return {
        f"class {name}" if name in taken else name: NO_AP if one.ap is None else round(one.ap, 4)
        for name, one in result.per_class.items()
    }


def format_stages(stages: Mapping[str, Mapping[str, float]], images: int) -> str:
    """Seconds of each stage, images a second, peak memory, and the sum, without a last newline.

    Args:
        stages: of ``detection.events.stage_seconds``.
        images: that each stage went over.
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
    """Write a result as JSON, whole or not at all; numbers are not rounded.

    The file holds the facts of ``extra``, ``map``, ``map_area``, and ``per_class``: ``ap``,
    ``ap_area``, ``npos``, ``detections``, ``ntp``, ``nfp`` of each class; the averages of a class
    without objects are null. The curves are left out: the result files give them again.

    Args:
        path: replaced if there.
        result: of ``evaluate_voc``.
        extra: what makes the numbers a finding, such as command, date, seconds and machine.

    Raises:
        ValueError: a fact of ``extra`` would hide one of the result's own, or a number is NaN or
            infinite, which JSON has not.
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
    """Put one row into a CSV; see ``put_rows``."""
    put_rows(path, [row], same)


def put_rows(path: str | Path, rows: Sequence[Mapping[str, Any]], same: Sequence[str]) -> None:
    """Put a finding's rows into a CSV: in place of all it had before, or at the end.

    The file begins with the names of its columns and is made if missing. It is written anew and
    moved into place, so it is never seen half written. Writers wait for each other.

    Args:
        path: the CSV.
        rows: at least one; values by column, in the file's order.
        same: the columns that tell one finding from another, the same in all rows.

    Raises:
        ValueError: the file's columns are not those of ``rows``, or its rows do not fit them.
    """
    path = Path(path)
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=60)
    with suppress(OSError, NotImplementedError):  # without locks, or where a writer hangs
        lock.acquire()
    try:
        _put_rows(path, rows, same)
    finally:
        lock.release()


def _rows_of(path: Path, columns: list[str]) -> list[dict[str, str]]:
    """The rows of a CSV of these columns; none of an empty file."""
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    names, rows = reader.fieldnames, list(reader)
    if names not in (None, columns):
        raise ValueError(f"{path} has the columns {names}, expected {columns}")
    if any(None in (*row, *row.values()) for row in rows):
        raise ValueError(f"{path} has rows of more or fewer fields than its header; mend them")
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
