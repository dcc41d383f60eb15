"""``sppnet NAME ...`` and ``python tools/NAME.py ...``: import a command's module and run it.

Signals are handled before the module is imported, as its imports take seconds.
"""

import gc
import os
import sys
from importlib import import_module

from commands.stopping import quit_when_stopped

# Each command is a module of this package, and a file of the same name in tools/.
COMMANDS = {
    "get_data": "get a data set: download VOC 2007, draw or cut images",
    "inspect_data": "look at annotated images before training",
    "train_det": "train a detector",
    "test_det": "test a trained detector on a split: mAP, result files, plots",
    "detect": "find objects in your own images",
    "export_det": "write a small file of a trained detector",
    "evaluate_det": "score a folder of VOC result files",
    "combine_det": "combine trained detectors",
    "compare_det": "compare two detectors by their tests",
    "make_proposals": "make the windows of a split and measure their recall",
    "train_edges": "train an edge network for EdgeBoxes",
    "train_cls": "train an image classifier",
    "test_cls": "test a trained image classifier on a split",
    "compare_cls": "compare image classifiers by their tests",
    "transfer_cls": "classify by a fixed network's features and linear SVMs",
    "benchmark": "time SPP-net against R-CNN",
    "benchmark_cls": "time a classifier against torchvision's loop",
}
PROGRAM = "sppnet"


def main() -> None:
    """The console script: run the command that the first word names, or list the commands."""
    words = sys.argv[1:]
    if not words or words[0] in ("--help", "-h", "help"):
        print(overview())
    elif words[0] not in COMMANDS:
        sys.exit(f"error: {words[0]} is not a command of {PROGRAM}: {', '.join(COMMANDS)}")
    else:
        # Usage, errors and the records of runs show the first word as the program's name.
        sys.argv = [f"{PROGRAM} {words[0]}", *words[1:]]
        run(words[0])


def run(name: str) -> None:
    """Run a command of ``COMMANDS`` with the flags of ``sys.argv``."""
    quit_when_stopped()
    # Huge pages for torch's large tensors, if Linux leaves that to the program: detection at one
    # scale took 0.20 s of processor time instead of 0.23, with the same result. Torch reads the
    # variable when it makes its first tensor; worker processes inherit it.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # OpenMP's threads shall sleep between two pieces of work: if they spin, they take the cores
    # from NNPACK's threads and from other processes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Objects made by imports stay until the end. Collecting garbage during imports, and these
    # objects at exit, took a tenth of the time from the command to the first image's detections.
    gc.disable()
    command = import_module(f"commands.{name}")
    gc.freeze()
    gc.enable()
    command.run()


def overview() -> str:
    """The commands, one per line."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    usage = f"usage: {PROGRAM} COMMAND [flags]"
    return "\n".join([usage, "", *lines, "", f"{PROGRAM} COMMAND --help shows a command's flags."])


def command_of(name: str) -> list[str]:
    """The words that start another command, by ``sppnet`` or ``python`` as this one was started."""
    if sys.argv[0].startswith(f"{PROGRAM} "):
        return [PROGRAM, name]
    return ["python", f"tools/{name}.py"]
