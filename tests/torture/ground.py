"""Drawn data, a training of it that nothing disturbs, and calls of the tools that are disturbed."""

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

# The quickstart, of fewer images and steps.
SETTINGS = [
    *("--config", "configs/quickstart.yaml", "--device", "cpu", "--network.weights", "random"),
    *("--scales", "1", "--finetune.steps", "20", "--finetune.images", "1"),
    *("--finetune.checkpoint_every", "5", "--svm.checkpoint_every", "4"),
    *("--proposals.selective_search.max_windows", "300", "--svm.layers", "[pool5,fc7]"),
]
# Of an error that a tool expects; anything else is a defect.
TRACE = "Traceback (most recent call last)"


class Ground:
    """Where all attempts take place.

    Args:
        folder: for data, runs and caches; what an attempt leaves is deleted after it.
        images: of the training.

    Attributes:
        detector: digest of the detector that an undisturbed training leaves.
        seconds: that it took.
        sizes: bytes of each kind of file that it left.
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
        """A training whose run and cache lie in a folder of this name."""
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
        """Train to the end, whatever it is."""
        process = self.start(name, *flags, **options)
        out, err = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def digest(self, name: str) -> str:
        """Of the detector that a training left."""
        return file_digest(self.folder / name / "run/detector.safetensors")

    def clear(self, name: str) -> None:
        """Delete what a training left."""
        shutil.rmtree(self.folder / name, ignore_errors=True)


def children(leader: int) -> list[int]:
    """Processes of a session that its leader or its children started, which do the work."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdigit() and int(place.name) != leader:
            try:
                session = int((place / "stat").read_text().rpartition(")")[2].split()[3])
                words = (place / "cmdline").read_bytes().split(b"\0")
            except (OSError, ValueError, IndexError):
                continue
            # Not joblib's own, which watches over names in shared memory.
            if session == leader and any(b"popen_loky" in word for word in words):
                found.append(int(place.name))
    return found
