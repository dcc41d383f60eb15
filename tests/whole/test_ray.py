"""A training and a test by Ray's workers, two of which die, leave the files of one process."""

import os
import subprocess
import sys
import time

import pytest
from driven_tools import FLAGS, TOOLS, check_same, files, write_small_voc
from made_cluster import PATHS

PROGRAM = """
import runpy, shlex, sys
from contextlib import nullcontext
from joblib import parallel_config

tools, how, training = sys.argv[1:]
if how == "ray":
    import ray
    from ray.util.joblib import register_ray
    ray.init(num_cpus=2, log_to_driver=False)
    register_ray()
place = "--run run --data.cache cache"
calls = [
    ("train_det", f"{training} {place} --data.root drawn --svm.layers [pool5]"),
    ("test_det", f"{place} --scales 1 --workers 1"),
]
with parallel_config(backend="ray", n_jobs=2) if how == "ray" else nullcontext():
    for tool, flags in calls:
        sys.argv = [tool, *shlex.split(flags)]
        try:
            runpy.run_path(f"{tools}/{tool}.py", run_name="__main__")
        except SystemExit as ended:
            assert not ended.code, ended.code
"""
# A worker is killed when so many files of these patterns are there.
KILLS = [("cache/windows/*/train*.safetensors", 1), ("cache/windows/*/test*.safetensors", 2)]


def start(folder, how):
    write_small_voc(folder / "drawn", train=8, test=20)
    with (folder / "log.txt").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(TOOLS), how, " ".join(FLAGS)],
            cwd=folder,
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1"},
        )


@pytest.mark.slow
def test_rays_workers(tmp_path):
    """Ray's threads use libc's random numbers, which once changed windows of selective search."""
    pytest.importorskip("ray")
    made = {}
    for how in ("serial", "ray"):
        folder = tmp_path / how
        folder.mkdir()
        program = start(folder, how)
        for pattern, count in KILLS if how == "ray" else []:
            while len([*folder.glob(pattern)]) < count:
                assert program.poll() is None, (folder / "log.txt").read_text()
                time.sleep(0.01)
            subprocess.run(["pkill", "-KILL", "-n", "-f", "^ray::PoolActor"], check=True)
        assert program.wait() == 0, (folder / "log.txt").read_text()
        made[how] = files(folder, "*.safetensors")
    said = (tmp_path / "ray" / "log.txt").read_text()
    assert said.count("a worker of the chosen backend was lost (ActorDiedError)") == len(KILLS)
    check_same(made["serial"], made["ray"])
