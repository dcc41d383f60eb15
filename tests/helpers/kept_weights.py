"""ImageNet's filters, if an earlier training downloaded them."""

import pytest
from paths import ROOT

KEPT = ROOT / "data/weights/alexnet_index.safetensors"


needs_kept_filters = pytest.mark.skipif(
    not KEPT.is_file(), reason=f"no {KEPT.name} in data/weights"
)
