"""Get a data set: fetch VOC 2007, draw or cut images (commands/get_data.py)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from commands.dispatch import run

if __name__ == "__main__":
    run("get_data")
