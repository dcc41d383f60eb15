"""Compare two detectors by their tests (commands/compare_det.py)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from commands.dispatch import run

if __name__ == "__main__":
    run("compare_det")
