"""Files of killed programs are deleted when a tool starts; a large cache's size is logged."""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

from detection import leftovers
from detection.config import Config
from detection.leftovers import remove_dead_names, sweep
from detection.run import Run
from detection.settings.data import Data


def test_the_size_of_a_large_cache_is_logged(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    run, cache = tmp_path / "run", tmp_path / "cache"
    sweep(run, cache)  # neither folder exists yet
    (cache / "bank").mkdir(parents=True)
    (cache / "bank/small").write_bytes(b"1" * 9)
    sweep(run, cache)
    assert not caplog.records
    with (cache / "bank/large").open("wb") as file:
        file.truncate(2_300_000_000)
    sweep(run, cache)
    assert f"the cache {cache} holds 2.3 GB" in caplog.text
    assert "it can be deleted while nothing runs" in caplog.text


def test_each_folder_is_walked_once(tmp_path, monkeypatch):
    """A folder is not walked twice, because a cache may hold a million files."""
    walk, walked = Path.rglob, []
    monkeypatch.setattr(Path, "rglob", lambda path, what: walked.append(path) or walk(path, what))
    sweep(tmp_path / "run", tmp_path / "cache")
    assert walked == [tmp_path / "run", tmp_path / "cache"]


def test_a_training_deletes_what_killed_ones_left(caplog, tmp_path):
    """When it starts, a training deletes leftovers in its run, its tests' folders and the cache."""
    caplog.set_level(logging.INFO)
    run = Run(Config(run=str(tmp_path / "run"), data=Data(cache=str(tmp_path / "cache"))))
    old = [
        run.folder / ".sppnet-one.part",
        run.folder / "stages/.sppnet-two.part",
        run.folder / "test_minival_5scales/candidates-fc7-ab/.sppnet-three.part",
        run.cache / "windows/edge_boxes-ab/.sppnet-four.part",
    ]
    stay = [run.folder / "stages/.sppnet-young.part", run.folder / "stages/svms.checkpoint"]
    for path in (*old, *stay):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
        if path in old:
            os.utime(path, (0, 0))
    run.describe()
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in stay)
    assert f"deleted {old[1]}, a leftover of a killed program" in caplog.text
    assert sum("a leftover of" in line for line in caplog.messages) == len(old)


def test_names_of_dead_processes_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(leftovers, "SHARED_MEMORY", tmp_path)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    of_dead = [f"sem.loky-{dead.pid}-0u_myukm", f"joblib_memmapping_folder_{dead.pid}_ab_cd"]
    stay = [
        f"sem.loky-{os.getpid()}-0u_myukm",
        f"joblib_memmapping_folder_{os.getpid()}_ab_cd",
        f"sem.other-{dead.pid}-ab",
        f"joblib_memmapping_folder_{dead.pid}",
        f"sem.loky-{dead.pid}-young",
    ]
    for name in (*of_dead, *stay):
        if name.startswith("joblib"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "array.pkl").write_bytes(b"numbers")
        else:
            (tmp_path / name).write_bytes(b"")
        if "young" not in name:
            os.utime(tmp_path / name, (time.time() - 4000,) * 2)
    assert {path.name for path in remove_dead_names()} == set(of_dead)
    assert {path.name for path in tmp_path.iterdir()} == set(stay)
    assert {path.name for path in remove_dead_names(older_than=-10)} == {stay[-1]}
    monkeypatch.setattr(os, "getuid", lambda: -1)
    os.utime(tmp_path / stay[2], (0, 0))
    (tmp_path / of_dead[0]).write_bytes(b"")
    assert remove_dead_names(older_than=-10) == []  # another user's files stay
    monkeypatch.setattr(leftovers, "SHARED_MEMORY", tmp_path / "none")
    assert remove_dead_names() == []
