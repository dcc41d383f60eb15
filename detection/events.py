"""What metrics.jsonl tells of a run: its events, and the time of each stage."""

import json
import logging
from datetime import datetime
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

# What is recorded of each stage.
STAGE_FACTS = ("seconds", "peak_memory_mb", "workers")


def read_events(folder: Path) -> list[dict[str, Any]]:
    """The events of metrics.jsonl; a line that a kill or a full disk cut off is passed over."""
    path = folder / "metrics.jsonl"
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    events = [event for event in map(_event_in, lines) if event is not None]
    if len(events) < len(lines):
        logger.warning("%s: %d lines are incomplete and ignored", path, len(lines) - len(events))
    return events


def events_of_training(folder: Path) -> list[dict[str, Any]]:
    """The events of the last training in a folder, and of what came after it.

    A folder may have seen other trainings. The calls of one have the same settings in their "start"
    events; a call by an older version has none, and counts to each.
    """
    events = read_events(folder)
    starts = [event.get("settings") for event in events if event["event"] == "start"]
    last = starts[-1] if starts else None
    kept, mine = [], True
    for event in events:
        if event["event"] == "start":
            mine = event.get("settings") in (last, None) or last is None
        if mine:
            kept.append(event)
    return kept


def _event_in(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and {"time", "event"} <= event.keys() else None


def stage_seconds(folder: Path) -> dict[str, dict[str, float]]:
    """Seconds, peak memory and workers of each stage of the last training in a folder, in order.

    A stage that was killed and taken up again counts with all its parts, each of the killed ones
    up to its last event; one that was reused keeps the time of its making. ``images``, where a
    stage tells them, are those that the seconds went to.
    """
    stages: dict[str, dict[str, float]] = {}
    lost: dict[str, tuple[float, int]] = {}
    begun: dict[str, Any] | None = None
    last, done = datetime.min, 0
    for event in events_of_training(folder):
        now = datetime.fromisoformat(event["time"])
        if begun and event["event"] in ("start", "begin"):
            seconds, images = lost.get(begun["stage"], (0.0, 0))
            seconds += (last - datetime.fromisoformat(begun["time"])).total_seconds()
            lost[begun["stage"]] = seconds, images + done
            begun = None
        if event["event"] == "begin":
            begun, done = event, 0
        elif event["event"] == "progress":
            done = event["done"]
        elif event["event"] == "stage":
            facts = {name: event[name] for name in STAGE_FACTS if name in event}
            seconds, images = lost.pop(event["stage"], (0.0, 0))
            facts["seconds"] = round(facts["seconds"] + seconds, 1)
            if begun and "images" in begun:
                facts["images"] = begun["images"] + images
            stages[event["stage"]] = facts
            begun = None
        last = now
    return stages
