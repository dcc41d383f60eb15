"""torchvision's operators on boxes and windows, imported in a tenth of the time.

``torchvision.ops`` imports ``torch._dynamo`` for one function, ``is_compile_supported``, which only
deformable and RoI align call. That import takes 1.1 of the 1.2 s. Here it is delayed until the
function is called.
"""

import sys
from types import ModuleType
from typing import Any

ASKED = "torch._dynamo.utils"


def _is_compile_supported(device: Any) -> bool:
    from torch._dynamo.utils import is_compile_supported

    return bool(is_compile_supported(device))


if ASKED not in sys.modules:
    _stand_in = ModuleType(ASKED)
    _stand_in.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    sys.modules[ASKED] = _stand_in
try:
    from torchvision.ops import box_iou, nms, roi_pool
finally:
    if not hasattr(sys.modules[ASKED], "__file__"):
        del sys.modules[ASKED]

__all__ = ["box_iou", "nms", "roi_pool"]
