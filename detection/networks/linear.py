"""The product of fc layers by the faster of the libraries inside PyTorch."""

import torch
from torch import Tensor, nn
from torch.nn import functional

# The operator that PyTorch's compiler puts in the place of linear layers; missing where PyTorch is
# built without oneDNN.
_ONEDNN = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``rows @ weight.T + bias``, ``(P, out)``, as ``torch.nn.functional.linear``.

    Float32 on the CPU, where neither a gradient nor another type is wanted, goes to oneDNN: PyTorch
    gives it to MKL, which leaves the wide instructions of AMD's processors unused and takes twice
    as long there (docs/LOG.md).

    Args:
        rows: ``(P, in)``.
        weight: ``(out, in)`` of the same type.
        bias: ``(out,)``.
    """
    other = rows.dtype != torch.float32 or rows.device.type != "cpu"
    if other or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or _ONEDNN is None:
        return functional.linear(rows, weight, bias)
    return _ONEDNN(rows, weight, bias, "none", [], "")


class Linear(nn.Linear):
    """A fully connected layer whose product is ``linear``'s."""

    def forward(self, input: Tensor) -> Tensor:
        """``(P, out)`` of rows ``(P, in)``."""
        return linear(input, self.weight, self.bias)
