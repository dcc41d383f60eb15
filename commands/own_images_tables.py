"""The tables of docs/own-images.md, from what tools/peers.py and tools/few_images.py left."""

from pathlib import Path

from commands.tables import markdown, rows_of, spread

OURS = "SPP-net, "


def own(table: Path) -> str:
    """Our own trainings: a line a set and configuration."""
    titles = ("set", "images to learn from", "configuration", "minutes", "AP, 11 points", "area")
    rows = [
        (
            row["set"],
            row["images"],
            f"`{row['method'].removeprefix(OURS)}`",
            row["minutes"],
            row["ap"],
            row["ap_area"],
        )
        for row in rows_of(table)
        if row["method"].startswith(OURS)
    ]
    return markdown(titles, sorted(rows, key=lambda row: (row[0], float(row[3]))))


def peers(table: Path) -> str:
    """Detectors trained on the same images for about as long: a line a set, method and limit."""
    titles = ("set", "method", "minutes", "AP, 11 points", "area", "s an image", "GB")
    rows = [
        (
            row["set"],
            row["method"],
            row["minutes"],
            row["ap"],
            row["ap_area"],
            row["test_seconds_an_image"],
            f"{float(row['peak_memory_mb']) / 1000:.1f}",
        )
        for row in rows_of(table)
    ]
    return markdown(titles, sorted(rows, key=lambda row: (row[0], row[1], float(row[2]))))


def few(table: Path) -> str:
    """AP in per cent by the number of labelled images: a line a set, mean and range of draws."""
    found: dict[str, dict[int, list[float]]] = {}
    for row in rows_of(table):
        line = found.setdefault(row["set"], {})
        line.setdefault(int(row["images"]), []).append(100 * float(row["ap"]))
    counts = sorted({count for line in found.values() for count in line})
    rows = [
        (name, *(spread(line.get(count, ())) for count in counts)) for name, line in found.items()
    ]
    return markdown(("set", *(f"{count} images" for count in counts)), rows)
