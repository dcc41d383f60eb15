"""What a start imports, and what is imported only when it is needed.

Each program runs in a process forked from one that has PyTorch, the slowest import of them all.
"""

import subprocess
import sys

FORKED = """
import os, sys, torch
for program in sys.argv[1:]:
    child = os.fork()
    if not child:
        exec(program)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, program
"""
COMPILER = """
boxes = torch.tensor([[0.0, 0, 0, 4, 4]])
import torchvision
assert torchvision.ops.roi_align(torch.ones(1, 1, 8, 8), boxes, 2).eq(1).all()
import torch._dynamo.utils
assert torch._dynamo.utils.__file__, "the stand-in is still there"
"""
PROGRAMS = [
    # It imports nothing for plots or training, and no compiler, which can be imported later.
    "import commands.detect\n"
    "slow = {'matplotlib', 'scipy', 'sklearn', 'jinja2', 'torch._dynamo', 'detection.training'}\n"
    "assert not slow & sys.modules.keys()\n"
    "assert 'detection.inference.detector' in sys.modules\n" + COMPILER,
    "import commands.train_cls; assert 'torch._dynamo' not in sys.modules",
    "import commands.train_det; assert 'torch._dynamo' not in sys.modules",
    "import detection; assert 'torch._dynamo' not in sys.modules\n"
    "assert not [name for name in sys.modules if '.training' in name]",
    # Making a network does not import sympy.
    "from detection.networks.build import build_backbone\n"
    "build_backbone('alexnet', 'random'); assert 'sympy' not in sys.modules",
    # A compiler that was imported before stays.
    "import torch._dynamo.utils as there, detection.boxes\n"
    "assert sys.modules['torch._dynamo.utils'] is there",
]


def test_what_is_not_needed_is_not_imported():
    done = subprocess.run([sys.executable, "-c", FORKED, *PROGRAMS], stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr.decode()
