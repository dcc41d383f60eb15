"""The machine: what it is, what it can compute with, and its threads."""

import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from joblib import cpu_count
from threadpoolctl import threadpool_limits

Precision = Literal["float32", "bfloat16"]
A = TypeVar("A")
B = TypeVar("B")


def fixed_threads() -> None:
    """Give this process as many threads as it may use real cores, whatever OMP_NUM_THREADS says.

    Sums depend on how many threads share them in their last bits, and so does what is trained.
    """
    cores = cpu_count(only_physical_cores=True)
    torch.set_num_threads(cores)
    threadpool_limits(cores, user_api="blas")


def device_named(name: str) -> torch.device:
    """The device that 'auto', 'cpu' or 'cuda' stands for; on CUDA float32 is float32 from then on.

    Raises:
        RuntimeError: CUDA was asked for and there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise RuntimeError("--device cuda was asked for, but PyTorch finds no CUDA device")
    device = torch.device("cuda" if available and name != "cpu" else "cpu")
    if device.type == "cuda":
        multiply_in_float32()
    return device


def ready(device: str | torch.device) -> torch.device:
    """A device that a network can be moved to; on CUDA float32 is float32 from then on.

    Raises:
        RuntimeError: nothing can be computed there, as without a driver; in one sentence.
    """
    device = torch.device(device)
    if device.type == "cuda":
        multiply_in_float32()
    try:
        torch.zeros(1, device=device).add_(1)
    except (RuntimeError, AssertionError) as error:  # the latter without CUDA in PyTorch
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise RuntimeError(
            f"the device {device} cannot be used ({reason}); use another, such as cpu"
        ) from error
    return device


def multiply_in_float32() -> None:
    """Keep TF32, PyTorch's default for convolutions on newer GPUs, out of this process's float32.

    It has 10 bits of mantissa in place of 23, so that the same settings would give other numbers on
    GPUs with it than on those without and on CPUs.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def device_in_keys(device: torch.device, precision: Precision) -> str:
    """What the key of an artefact says of the device whose arithmetic it is of."""
    if device.type == "cuda" and precision == "float32":
        return "cuda float32"  # under "cuda" lie numbers that may have been made in TF32
    return device.type


def native_precision(precision: Precision, device: torch.device) -> Precision:
    """The precision that a device multiplies in by itself: float32 where it lacks bfloat16.

    Elsewhere PyTorch emulates bfloat16: 2 to 4 times slower than float32 for these layers with the
    instructions switched off (docs/decisions.md), and far slower on some processors
    (pytorch/pytorch, issue 146508).
    """
    if precision == "float32":
        return precision
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        known = [getattr(torch.cpu, name) for name in asked if hasattr(torch.cpu, name)]
        if not known:  # before PyTorch 2.6, which is content with AVX512
            known = [torch.ops.mkldnn._is_mkldnn_bf16_supported]
        native = any(has() for has in known)
    return precision if native else "float32"


@contextmanager
def one_thread() -> Iterator[None]:
    """This process with one thread, as worker processes have: with more, sums differ."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


def side_by_side(beside: Callable[[], A], here: Callable[[], B]) -> tuple[A, B]:
    """What two functions return, called at once where this process has several threads.

    Args:
        beside: called in a thread of its own; what it does with one thread leaves a core to it.
        here: called in this thread, with all of its threads, so that its sums stay what they are.
    """
    if torch.get_num_threads() == 1:
        return beside(), here()
    with ThreadPoolExecutor(1) as executor:
        other = executor.submit(beside)
        mine = here()
        return other.result(), mine


def peak_memory_mb() -> int:
    """Largest resident memory so far, in MB, of this process or one it waited for.

    0 where the system does not tell, as Windows.
    """
    try:
        import resource
    except ImportError:
        return 0
    peak = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return peak // (1024 if sys.platform != "darwin" else 1024**2)


def environment() -> dict[str, Any]:
    """Versions, machine and git state, for the record."""
    names = ("torch", "torchvision", "opencv-contrib-python", "scikit-learn", "numpy")
    source = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        """What a git command prints about the source's checkout; empty where there is none."""
        command = ["git", "-C", str(source), *arguments]
        try:
            return subprocess.run(command, capture_output=True, text=True).stdout.strip()
        except OSError:
            return ""

    return {
        "python": platform.python_version(),
        **{name: version_of(name) for name in names},
        "machine": platform.machine(),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "commit": git("rev-parse", "--short=12", "HEAD"),
        "uncommitted_changes": bool(git("status", "--porcelain", "--untracked-files=no")),
    }


def version_of(package: str) -> str | None:
    """A package's version; None where another one gives the same module, as OpenCV's do."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def processor() -> str:
    """The processor's model name where the system tells it."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()
