"""The quick import of torchvision's operators."""

import subprocess
import sys

import pytest

AFTERWARDS = """
import torch, torchvision
assert "torch._dynamo" not in sys.modules, "torch._dynamo was imported"
boxes = torch.tensor([[0.0, 0, 0, 4, 4]])
assert torchvision.ops.roi_align(torch.ones(1, 1, 8, 8), boxes, 2).eq(1).all()
import torch._dynamo.utils
assert torch._dynamo.utils.__file__, "the stand-in is still there"
"""


@pytest.mark.parametrize(
    "statement",
    ["import commands.detect", "import commands.train_cls", "from detection import SPPDetector"],
)
def test_a_command_starts_without_the_compiler(statement):
    script = f"import sys\n{statement}\n{AFTERWARDS}"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_loading_a_network_imports_no_algebra():
    script = "import sys; from detection.networks.build import build_backbone\n"
    script += "build_backbone('alexnet', 'random'); assert 'sympy' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_compiler_that_is_there_already_stays():
    script = "import torch._dynamo.utils as there, detection.boxes, sys\n"
    script += "assert sys.modules['torch._dynamo.utils'] is there"
    subprocess.run([sys.executable, "-c", script], check=True)
