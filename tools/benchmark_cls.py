"""Time a classifier beside torchvision's loop (commands/benchmark_cls.py)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from commands.dispatch import run

if __name__ == "__main__":
    run("benchmark_cls")
