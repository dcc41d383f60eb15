"""The receptive field of the cells of any network's map, derived from its layers.

The network is traced. Kernels, strides, paddings and dilations are added up along each path from
the image to the map. Paths that meet (in a sum, a product or a concatenation) must have the same
stride; the widest receptive field counts.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

GLOBAL = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


@dataclass(frozen=True)
class ReceptiveField:
    """The receptive field of the cells of a map, along one axis.

    Attributes:
        size: pixels that a cell depends on, from convolutions and poolings (139 for ZF-5).
        stride: pixels between the centres of neighbouring cells.
        centre: 0-based pixel at the centre of cell 0's receptive field. Padding pixels outside the
            image count as part of the field (the released code's ``offset0`` is this plus 1).
    """

    size: int
    stride: int
    centre: float

    def through(self, kernel: int, stride: int, padding: int, dilation: int) -> "ReceptiveField":
        """The field after a layer: wider, with its centre moved by ``d (k - 1) / 2 - p`` cells."""
        reach = dilation * (kernel - 1)
        return ReceptiveField(
            self.size + reach * self.stride,
            self.stride * stride,
            self.centre + (reach / 2 - padding) * self.stride,
        )


# While torch.fx traces, it patches nn.Module for the whole process, so it would also trace the
# calls of other threads. Code that traces a module, or calls one while loading it, holds this lock.
TRACING = threading.RLock()


class _Tracer(fx.Tracer):
    """Enters every module that has submodules; other modules are single steps."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module counts as one step: it has no submodules."""
        return not any(True for _ in m.children())


def receptive_field(trunk: nn.Module) -> ReceptiveField:
    """The receptive field of a network of square convolutions and poolings.

    Layers of other kinds count as pointwise: normalisation, as in the paper's 139 pixels, and a
    factor computed from the whole map (squeeze and excitation).

    Raises:
        ValueError: a layer is not square, or paths of different strides meet.
    """
    modules = dict(trunk.named_modules())
    found: dict[fx.Node, ReceptiveField | None] = {}
    for node in _Tracer().trace(trunk).nodes:
        if node.op == "placeholder":
            found[node] = ReceptiveField(1, 1, 0.0)
            continue
        field = _widest(node, (found[each] for each in node.all_input_nodes))
        if node.op == "call_module" and field is not None:
            field = _after(modules[str(node.target)], field)
        found[node] = field
        if node.op == "output":
            break
    if field is None:
        raise ValueError("the network's output does not depend on places in the image")
    return field


def _widest(node: fx.Node, fields: Iterable[ReceptiveField | None]) -> ReceptiveField | None:
    """The widest of the fields that meet in a node; None means the whole map."""
    local = [field for field in fields if field is not None]
    if len({field.stride for field in local}) > 1:
        raise ValueError(f"maps of different strides meet at {node.name}: {local}")
    return max(local, key=lambda field: field.size, default=None)


def _after(layer: nn.Module, field: ReceptiveField) -> ReceptiveField | None:
    if isinstance(layer, GLOBAL):
        return None
    if isinstance(layer, nn.ZeroPad2d):
        left, _, top, _ = layer.padding
        return field.through(1, 1, _side((left, top)), 1)
    if not isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        return field
    return field.through(
        _side(layer.kernel_size),
        _side(layer.stride),
        _side(layer.padding),
        _side(getattr(layer, "dilation", 1)),
    )


def _side(value: Any) -> int:
    """A parameter of a square layer as one number."""
    sides = {value} if isinstance(value, int) else set(value)
    if len(sides) != 1 or not isinstance(side := sides.pop(), int):
        raise ValueError(f"a layer must be square, with padding in pixels; got {value}")
    return side
