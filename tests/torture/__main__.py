"""Kills, full disks, cut links, trainings at once: every attempt has to end with the same detector.

    make torture                                    # half an hour
    python tests/torture --minutes 5 --images 8     # shorter

The attempts take turns until the time is over; the last lines count them. Linux only.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import links
from ground import ROOT, TRACE, Ground, children

Counts = Counter[str]


def killed_anywhere(ground: Ground, rng: random.Random, counts: Counts) -> None:
    """Kill all processes of a training at random times, until one start reaches the end."""
    latest = 0.5  # of an undisturbed training's time, so that the first start is killed
    while True:
        process = ground.start("killed")
        try:
            _, err = process.communicate(timeout=rng.uniform(0.1, latest) * ground.seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            counts["kills"] += 1
            counts["restarts"] += 1
            latest = 1.3
            continue
        check(process.returncode == 0, err, counts)
        same(ground, "killed", counts)
        return


def workers_killed(ground: Ground, rng: random.Random, counts: Counts) -> None:
    """Kill one worker after another; the training does not stop."""
    process = ground.start("workers")
    while True:
        try:
            _, err = process.communicate(timeout=rng.uniform(0.05, 0.3) * ground.seconds)
            break
        except subprocess.TimeoutExpired:
            for worker in rng.sample(found := children(process.pid), min(1, len(found))):
                os.kill(worker, signal.SIGKILL)
                counts["workers killed"] += 1
    check(process.returncode == 0, err, counts)
    same(ground, "workers", counts)


def disk_full(ground: Ground, rng: random.Random, counts: Counts) -> None:
    """Limit the size of files so that a stage fails; without the limit, the command resumes."""
    limit = rng.choice(sorted(ground.sizes.values())) - 1
    done = ground.train("full", limit=limit)
    check(done.returncode == 1, done.stderr, counts)
    said = done.stderr.splitlines()[-1]
    check(said.startswith("error: ") and "cannot be written" in said, done.stderr, counts)
    counts["full disks"] += 1
    counts["restarts"] += 1
    done = ground.train("full")
    check(done.returncode == 0, done.stderr, counts)
    same(ground, "full", counts)


def two_at_one_cache(ground: Ground, rng: random.Random, counts: Counts) -> None:
    """Two trainings fill one cache; one of them may be killed."""
    cache = str(ground.folder / "first/cache")
    one, two = ground.start("first", cache=cache), ground.start("second", cache=cache)
    if rng.random() < 0.5:
        time.sleep(rng.uniform(0.1, 1) * ground.seconds)
        os.killpg(two.pid, signal.SIGKILL)
        counts["kills"] += 1
        two.communicate()
        counts["restarts"] += 1
        two = ground.start("second", cache=cache)
    for process, name in ((one, "first"), (two, "second")):
        _, err = process.communicate()
        check(process.returncode == 0, err, counts)
        same(ground, name, counts)


def two_settings_in_one_run(ground: Ground, rng: random.Random, counts: Counts) -> None:
    """A second training is refused while one works in the folder, and can use it afterwards."""
    first = ground.start("shared")
    while not (ground.folder / "shared/run/metrics.jsonl").exists() and first.poll() is None:
        time.sleep(0.05)
    done = ground.train("shared", "--seed", "7")
    if first.poll() is None:
        check(done.returncode == 1, done.stderr, counts)
        check("another training is at work" in done.stderr, done.stderr, counts)
        counts["refused"] += 1
    _, err = first.communicate()
    check(first.returncode == 0, err, counts)
    same(ground, "shared", counts)
    done = ground.train("shared", "--seed", "7")
    check(done.returncode == 0, done.stderr, counts)
    check(ground.digest("shared") != ground.detector, "another seed, the same detector", counts)


def clock_set_back(ground: Ground, rng: random.Random, counts: Counts) -> None:
    """Give all files tomorrow's date, as if the clock had been set back; the training resumes."""
    process = ground.start("clock")
    try:
        process.communicate(timeout=rng.uniform(0.2, 0.9) * ground.seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        counts["kills"] += 1
        counts["restarts"] += 1
    tomorrow = time.time() + 86400
    for path in (ground.folder / "clock").rglob("*"):
        os.utime(path, (tomorrow, tomorrow))
    counts["clocks set back"] += 1
    done = ground.train("clock")
    check(done.returncode == 0, done.stderr, counts)
    same(ground, "clock", counts)


def links_cut(ground: Ground, rng: random.Random, counts: Counts) -> None:
    """Cut a worker's link, for 20 s or for the rest of the training, which does not stop."""
    with links.apart(ground.folder / "apart") as address:
        process = ground.start("links", "--cluster", address)
        try:
            _, err = process.communicate(timeout=rng.uniform(0.2, 0.9) * ground.seconds)
        except subprocess.TimeoutExpired:
            name = rng.choice(links.WORKERS)
            links.set_link(name, "down")
            counts["links cut"] += 1
            if rng.random() < 0.5:
                time.sleep(20)
                links.set_link(name, "up")
            _, err = process.communicate()
    check(process.returncode == 0, err, counts)
    same(ground, "links", counts)


def hostile_files(ground: Ground, rng: random.Random, counts: Counts) -> None:
    """Run the fuzzer's tests: a hostile file leads to one sentence, never to a traceback."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += [str(ROOT / "tests/whole/test_fuzz.py"), f"--hypothesis-seed={rng.getrandbits(32)}"]
    environment = os.environ | {"FUZZ_EXAMPLES": "1500", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    check(done.returncode == 0, done.stdout, counts)
    counts["fuzzed files"] += 1500


TRIALS: list[Callable[[Ground, random.Random, Counts], None]] = [
    *(killed_anywhere, workers_killed, disk_full, two_at_one_cache, two_settings_in_one_run),
    *(clock_set_back, links_cut, hostile_files),
]


def check(right: bool, said: str, counts: Counts) -> None:
    """Count and print a failure, also if the output has a traceback."""
    if not right or TRACE in said:
        counts["failures"] += 1
        print(f"FAILED:\n{said}", flush=True)


def same(ground: Ground, name: str, counts: Counts) -> None:
    """Count a detector, and whether it is equal to the undisturbed training's."""
    counts["detectors"] += 1
    if ground.digest(name) == ground.detector:
        counts["detectors equal"] += 1
    else:
        counts["failures"] += 1


def main() -> int:
    """Make attempts until the time is over; return 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=[trial.__name__ for trial in TRIALS])
    asked = parser.parse_args()
    rng, counts = random.Random(asked.seed), Counter[str]()
    trials = [trial for trial in TRIALS if asked.only in (None, trial.__name__)]
    if links_cut in trials and (why := links.missing()):
        print(why, flush=True)
        trials.remove(links_cut)
        if not trials:
            return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the folder is deleted
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    try:
        ground = Ground(folder, asked.images)
        print(f"undisturbed: {ground.seconds:.0f} s, sha256 {ground.detector}", flush=True)
        end = time.monotonic() + 60 * asked.minutes
        while time.monotonic() < end:
            trial = trials[counts["attempts"] % len(trials)]
            trial(ground, rng, counts)
            counts["attempts"] += 1
            for place in folder.iterdir():
                if place.name not in ("drawn", "whole"):
                    ground.clear(place.name)
            print(f"{trial.__name__}: {dict(counts)}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(", ".join(f"{count} {name}" for name, count in sorted(counts.items())))
    return 1 if counts["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
