"""Results for people and for files: the per-class table, a JSON file, a row of a CSV."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detection.evaluation.voc_ap import VOCResult
from proposals.disk import save_text


def format_table(result: VOCResult, ap50: float | None = None) -> str:
    """The result as an aligned table, one class a line, without a newline at its end.

    Columns: 11-point AP, area AP, objects that are not difficult, detections, and how many of
    those are true and false positives (the rest is ignored). The last line is ``mAP`` and the mean
    11-point AP to four digits; above it stand the means of the other averages.

    Args:
        result: of ``evaluate_voc``.
        ap50: pycocotools' AP at overlap 0.5, when it was computed.
    """
    width = max(len(name) for name in ("class", *result.classes))
    header = ("AP", "AP area", "objects", "detections", "tp", "fp")
    lines = [f"{'class':<{width}}" + "".join(f"  {title:>10}" for title in header)]
    for name, one in result.per_class.items():
        averages = "".join(f"  {value:>10.4f}" for value in (one.ap, one.ap_area))
        counts = "".join(f"  {n:>10}" for n in (one.npos, len(one.scores), one.ntp, one.nfp))
        lines.append(f"{name:<{width}}{averages}{counts}")
    if ap50 is not None:
        lines.append(f"AP50 (pycocotools) {ap50:.4f}")
    lines.append(f"mAP (area) {result.map_area:.4f}")
    lines.append(f"mAP {result.map:.4f}")
    return "\n".join(lines)


def format_stages(stages: Mapping[str, Mapping[str, float]], pictures: int) -> str:
    """Seconds of each stage, pictures a second, peak memory, and the sum, without a last newline.

    Args:
        stages: of ``detection.run.stage_seconds``.
        pictures: that each stage went over.
    """
    width = max(len(name) for name in ("in all", *stages))
    lines = [f"{'stage':<{width}}" + f"{'seconds':>10}{'pictures/s':>12}{'peak MB':>10}"]
    for name, one in stages.items():
        rate = pictures / max(one["seconds"], 0.1)
        lines.append(
            f"{name:<{width}}{one['seconds']:>10.1f}{rate:>12.2f}{one['peak_memory_mb']:>10.0f}"
        )
    lines.append(f"{'in all':<{width}}{sum(one['seconds'] for one in stages.values()):>10.1f}")
    return "\n".join(lines)


def save_result(path: str | Path, result: VOCResult, extra: Mapping[str, Any]) -> None:
    """Write a result as JSON, whole or not at all; numbers are not rounded.

    The file holds the facts of ``extra``, ``map``, ``map_area``, and ``per_class``: ``ap``,
    ``ap_area``, ``npos``, ``detections``, ``ntp``, ``nfp`` of each class. The curves are left out:
    the result files give them again.

    Args:
        path: replaced if there.
        result: of ``evaluate_voc``.
        extra: what makes the numbers a finding, such as command, date, seconds and machine.

    Raises:
        ValueError: a fact of ``extra`` would hide one of the result's own.
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
        raise ValueError(f"the facts beside a result may not be named {taken}: it has those itself")
    save_text(path, json.dumps({**extra, **content}, indent=2) + "\n")


def put_row(path: str | Path, row: Mapping[str, Any], same: Sequence[str]) -> None:
    """Put one row into a CSV; see ``put_rows``."""
    put_rows(path, [row], same)


def put_rows(path: str | Path, rows: Sequence[Mapping[str, Any]], same: Sequence[str]) -> None:
    """Put a finding's rows into a CSV: in place of all it had before, or at the end.

    The file begins with the names of its columns and is made if missing. It is written anew and
    moved into place, so it is never seen half written. Two writers at once would lose a row.

    Args:
        path: the CSV.
        rows: at least one; values by column, in the file's order.
        same: the columns that tell one finding from another, the same in all rows.

    Raises:
        ValueError: the file's columns are not those of ``rows``.
    """
    path = Path(path)
    columns = [str(column) for column in rows[0]]
    own = [{column: str(value) for column, value in row.items()} for row in rows]
    others: list[dict[str, str]] = []
    if path.exists():
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
        if reader.fieldnames != columns:
            raise ValueError(f"{path} has the columns {reader.fieldnames}, expected {columns}")
        others = list(reader)
    before = [n for n, found in enumerate(others) if all(found[c] == own[0][c] for c in same)]
    place = before[0] if before else len(others)
    others = [found for n, found in enumerate(others) if n not in before]
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows([*others[:place], *own, *others[place:]])
    save_text(path, table.getvalue())
