"""Fully connected layers, computed by the fastest library inside PyTorch."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

# The operator by which PyTorch's compiler replaces linear layers.
_ONEDNN: Any = (
    getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if torch.backends.mkldnn.is_available()
    else None
)


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``rows @ weight.T + bias``, ``(P, out)``, like ``torch.nn.functional.linear``.

    Float32 on a CPU is computed by oneDNN. PyTorch would use MKL, which does not use the wide
    instructions of AMD's processors and takes twice as long there (docs/decisions.md).

    Args:
        rows: ``(P, in)``.
        weight: ``(out, in)`` of the same type.
        bias: ``(out,)``.
    """
    other = rows.dtype != torch.float32 or rows.device.type != "cpu"
    if other or _ONEDNN is None or torch.is_autocast_enabled("cpu"):
        return functional.linear(rows, weight, bias)
    return _ByOneDNN.apply(rows, weight, bias)


def _product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """``left @ right.T + bias``."""
    return _ONEDNN(left, right, bias, "none", [], "")


class _ByOneDNN(torch.autograd.Function):
    """The product and its gradients, all by oneDNN."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """``(P, out)`` of rows ``(P, in)``, weight ``(out, in)`` and bias ``(out,)``."""
        ctx.save_for_backward(rows, weight)
        return _product(rows, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Gradients of rows, weight and bias, where needed, from the output's ``(P, out)``."""
        rows, weight = ctx.saved_tensors
        wanted, slope = ctx.needs_input_grad, slope.contiguous()
        return (
            _product(slope, weight.T) if wanted[0] else None,
            _product(slope.T, rows.T) if wanted[1] else None,
            slope.sum(dim=0) if wanted[2] else None,
        )


class Linear(nn.Linear):
    """A fully connected layer computed by ``linear``."""

    def reset_parameters(self) -> None:
        """Draw weights as PyTorch does; skips layers without outputs, for which PyTorch warns."""
        if self.out_features:
            super().reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        """``(P, out)`` of rows ``(P, in)``."""
        return linear(input, self.weight, self.bias)
