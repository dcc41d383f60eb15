"""Synthetic data, an undisturbed training on it, and trainings that can be disturbed."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/helpers")]

from detection.data.synthetic.dataset import write_synthetic_voc  # noqa: E402
from files.writing import file_digest  # noqa: E402

# The quickstart with fewer images and steps.
SETTINGS = [
    *("--config", "configs/quickstart.yaml", "--device", "cpu", "--network.weights", "random"),
    *("--scales", "1", "--finetune.steps", "20", "--finetune.images", "1"),
    *("--finetune.checkpoint_every", "5", "--svm.checkpoint_every", "4"),
    *("--proposals.selective_search.max_windows", "300", "--svm.layers", "[pool5,fc7]"),
]
# A traceback is a defect: errors that a tool expects are one sentence.
TRACE = "Traceback (most recent call last)"


class Ground:
    """The folder and the data of all attempts, and the result of an undisturbed training.

    Args:
        folder: for data, runs and caches; what an attempt leaves is deleted after it.
        images: number of images to train on.

    Attributes:
        detector: digest of the detector that an undisturbed training leaves.
        seconds: how long that training took.
        sizes: bytes of the largest file of each kind that it left.
    """

    def __init__(self, folder: Path, images: int) -> None:
        self.folder = folder
        write_synthetic_voc(folder / "drawn", train=images, test=4, seed=0)
        start = time.monotonic()
        done = self.train("whole", workers=1)
        assert done.returncode == 0, done.stderr
        self.seconds = time.monotonic() - start
        self.detector = self.digest("whole")
        self.sizes: dict[str, int] = {}
        for path in (folder / "whole").rglob("*.safetensors"):
            kind = "windows" if path.parent.parent.name == "windows" else path.parent.name
            if kind == "stages":
                kind = path.name.rpartition("-")[0]
            elif len(kind) == 16:
                kind = "bank"
            self.sizes[kind] = max(self.sizes.get(kind, 0), path.stat().st_size)

    def command(self, name: str, *flags: str, workers: int = 2, cache: str = "") -> list[str]:
        """Return the command of a training whose run and cache are in a folder of this name."""
        place = self.folder / name
        places = ["--run", str(place / "run"), "--data.cache", cache or str(place / "cache")]
        words = [*SETTINGS, "--data.root", str(self.folder / "drawn"), *places]
        words += ["--workers", str(workers), *flags]
        return [sys.executable, str(ROOT / "tools/train_det.py"), *words]

    def start(
        self, name: str, *flags: str, limit: int | None = None, **options
    ) -> subprocess.Popen:
        """Start a training in a session of its own; ``limit`` is the largest file, in bytes."""

        def limited() -> None:
            if limit is not None:
                import resource

                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        return subprocess.Popen(
            self.command(name, *flags, **options),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=limited,
            env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
        )

    def train(self, name: str, *flags: str, **options) -> subprocess.CompletedProcess:
        """Start a training and wait for its end, with or without success."""
        process = self.start(name, *flags, **options)
        out, err = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def digest(self, name: str) -> str:
        """Return the digest of the detector that a training left."""
        return file_digest(self.folder / name / "run/detector.safetensors")

    def clear(self, name: str) -> None:
        """Delete what a training left."""
        shutil.rmtree(self.folder / name, ignore_errors=True)


def children(leader: int) -> list[int]:
    """Return the ids of joblib's worker processes in the session of ``leader``."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdigit() and int(place.name) != leader:
            try:
                session = int((place / "stat").read_text().rpartition(")")[2].split()[3])
                words = (place / "cmdline").read_bytes().split(b"\0")
            except (OSError, ValueError, IndexError):
                continue
            # Joblib's process that watches over names in shared memory is left out.
            if session == leader and any(b"popen_loky" in word for word in words):
                found.append(int(place.name))
    return found
