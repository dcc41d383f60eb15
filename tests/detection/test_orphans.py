"""Worker processes end with the one that started them, whether it ends before or after."""

import os
import subprocess
import sys
import time

import pytest
from paths import ROOT

from detection.orphans import end_with

PROGRAM = """
import os, sys, time
from detection.orphans import end_with
parent, early = os.getpid(), sys.argv[1] == "early"
if not os.fork():
    while early and os.getppid() == parent:
        time.sleep(0.01)
    end_with(parent)
    print("watches", flush=True)
    time.sleep(100)
if not early:
    time.sleep(1)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
@pytest.mark.parametrize("when", ["early", "late"])
def test_a_child_ends_with_its_parent(when):
    """``communicate`` waits until the child, too, has closed its output."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, when],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    out, _ = parent.communicate(timeout=90)
    assert parent.returncode == 0
    assert when == "early" or out == "watches\n"


def test_the_process_that_gives_the_jobs_stays():
    end_with(os.getpid())
    time.sleep(0.1)
