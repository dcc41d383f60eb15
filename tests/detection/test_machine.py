"""The machine: its description, devices and threads."""

import json
import os
import subprocess
import sys
import threading

import joblib
import pytest
import torch
from threadpoolctl import threadpool_info

from detection.machine import (
    device_in_keys,
    device_named,
    environment,
    fixed_threads,
    native_precision,
    one_thread,
    peak_memory_mb,
    ready,
    side_by_side,
    version_of,
)


def counts():
    """Return the numbers of threads of PyTorch and of NumPy's linear algebra."""
    blas = [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]
    return torch.get_num_threads(), max(blas, default=1)


def test_environment_can_be_written():
    facts = environment()
    for name in ("python", "torch", "torchvision", "opencv-contrib-python", "scikit-learn"):
        assert facts[name][0].isdigit()
    assert facts["threads"] >= 1
    assert facts["machine"]
    assert isinstance(facts["uncommitted_changes"], bool)
    assert {"processor", "cuda", "commit"} <= facts.keys()
    assert json.loads(json.dumps(facts)) == facts


def test_environment_without_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    facts = environment()
    assert facts["commit"] == ""
    assert facts["uncommitted_changes"] is False


def test_a_package_of_another_name():
    assert version_of("joblib") == joblib.__version__
    assert version_of("no-such-package") is None


def test_without_the_module_that_measures_memory(monkeypatch):
    """Windows has no module ``resource``, so the peak memory is 0 there."""
    assert peak_memory_mb() > 10
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_memory_mb() == 0


@pytest.mark.parametrize("asked", ["1", None])
def test_threads_do_not_depend_on_the_environment(asked):
    program = (
        "import numpy, torch\n"
        "from detection.machine import fixed_threads\n"
        "from threadpoolctl import threadpool_info\n"
        "fixed_threads()\n"
        "blas = [each for each in threadpool_info() if each['user_api'] == 'blas']\n"
        "print(torch.get_num_threads(), *{each['num_threads'] for each in blas})\n"
    )
    variables = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    if asked is not None:
        variables["OMP_NUM_THREADS"] = asked
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout
    assert said.split() == [str(joblib.cpu_count())] * 2


def test_threads_come_back_after_an_error(threads):
    with pytest.raises(KeyError), one_thread():
        raise KeyError(counts())
    assert counts() == (2, 2)


@pytest.mark.parametrize("count", [1, 2])
def test_side_by_side_where_there_are_threads(threads, count):
    torch.set_num_threads(count)

    def beside():
        with one_thread():
            return threading.current_thread(), torch.get_num_threads()

    (thread, theirs), mine = side_by_side(
        beside, lambda: (threading.current_thread(), torch.get_num_threads())
    )
    assert mine == (threading.current_thread(), count)
    assert theirs == 1
    assert (thread is threading.current_thread()) == (count == 1)
    assert torch.get_num_threads() == count


@pytest.mark.parametrize("count", [1, 2])
def test_side_by_side_either_may_fail(threads, count):
    torch.set_num_threads(count)

    def fail():
        raise KeyError

    for two in ((fail, counts), (counts, fail)):
        with pytest.raises(KeyError):
            side_by_side(*two)


def test_fixed_threads_in_this_process(threads):
    torch.set_num_threads(1)
    fixed_threads()
    assert torch.get_num_threads() == joblib.cpu_count()


@pytest.mark.parametrize("has", [False, True])
def test_bfloat16_only_where_the_processor_has_it(has, monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert native_precision("float32", cpu) == "float32"
    assert native_precision("bfloat16", cpu) == ("bfloat16" if has else "float32")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has)
    assert native_precision("bfloat16", torch.device("cuda")) == ("bfloat16" if has else "float32")


def test_bfloat16_in_older_pytorch(monkeypatch):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    native = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    expected = "bfloat16" if native else "float32"
    assert native_precision("bfloat16", torch.device("cpu")) == expected


def tf32():
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


@pytest.fixture
def with_tf32():
    """Allow TF32, as PyTorch does for convolutions by default; restore the settings afterwards."""
    before = tf32()
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.parametrize("choose", [device_named, ready])
def test_float32_on_a_gpu_is_not_tf32(with_tf32, monkeypatch, choose):
    choose("cpu")
    assert tf32() == (True, True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: torch.ones(1))
    assert choose("cuda") == torch.device("cuda")
    assert tf32() == (False, False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_convolutions_on_a_gpu_are_in_float32(with_tf32):
    generator = torch.Generator().manual_seed(0)
    image, weight = (torch.randn(2, 64, 16, 16, generator=generator) for _ in range(2))
    exact = torch.nn.functional.conv2d(image.double(), weight.double()).float()
    device = ready("cuda")
    found = torch.nn.functional.conv2d(image.to(device), weight.to(device)).cpu()
    assert (found - exact).abs().max() < 1e-5 * exact.abs().max()


def test_keys_tell_float32_from_tf32():
    """Artefacts with "cuda" in their keys may be of TF32, so float32 has a name of its own."""
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 1)
    assert [device_in_keys(cpu, each) for each in ("float32", "bfloat16")] == ["cpu", "cpu"]
    assert device_in_keys(gpu, "float32") == "cuda float32"
    assert device_in_keys(gpu, "bfloat16") == "cuda"


def test_a_device_without_its_library_is_refused():
    for name in ("cuda", "mps"):
        if not getattr(torch, name).is_available():
            with pytest.raises(RuntimeError, match=f"the device {name} cannot be used .*as cpu$"):
                ready(name)
    assert ready("cpu") == torch.device("cpu")
