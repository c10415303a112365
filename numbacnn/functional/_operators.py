"""What `Tensor` can do: the table of functions that become its operators and methods.

The tape may not know any operation, so `Tensor` is written without them and they are installed from here. In-place
operators on a leaf that requires a gradient (``weight -= rate * weight.grad`` under `no_grad`) write into its memory,
as optimisers do; on any other tensor they rebind the name, as Python does for immutable values, so that nobody else's
values change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import ops
from ..autograd import Tensor, is_grad_enabled, tape
from ..errors import GradientError
from . import arithmetic, elementwise, reduction, shape

if TYPE_CHECKING:
    from collections.abc import Callable

    Binary = Callable[[Any, Any], Tensor]


def _reflected(function: Binary) -> Binary:
    def operator(self: Tensor, other: Any) -> Tensor:
        return function(other, self)

    return operator


def _in_place(function: Binary) -> Binary:
    def operator(self: Tensor, other: Any) -> Tensor:
        if not (self.is_leaf and self.requires_grad):
            return function(self, other)
        if is_grad_enabled():
            raise GradientError(
                "a leaf tensor that requires a gradient cannot be changed in place while recording; do it under "
                "no_grad(), or write x = x + y instead of x += y"
            )
        self.data[...] = function(self, other).data
        self.mark_changed()
        return self

    return operator


def _sum(x: np.ndarray, y: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    return ops.arithmetic.elementwise(np.add, x, y, out)


tape.install_sum(_sum)
Tensor.install(
    __add__=arithmetic.add,
    __radd__=_reflected(arithmetic.add),
    __iadd__=_in_place(arithmetic.add),
    __sub__=arithmetic.sub,
    __rsub__=_reflected(arithmetic.sub),
    __isub__=_in_place(arithmetic.sub),
    __mul__=arithmetic.mul,
    __rmul__=_reflected(arithmetic.mul),
    __imul__=_in_place(arithmetic.mul),
    __truediv__=arithmetic.div,
    __rtruediv__=_reflected(arithmetic.div),
    __itruediv__=_in_place(arithmetic.div),
    __pow__=arithmetic.pow,
    __rpow__=_reflected(arithmetic.pow),
    __matmul__=arithmetic.matmul,
    __rmatmul__=_reflected(arithmetic.matmul),
    __neg__=elementwise.neg,
    __abs__=elementwise.abs,
    __getitem__=shape.getitem,
    T=property(lambda self: shape.permute(self, *reversed(range(self.ndim))), doc="The axes in reverse order."),
    exp=elementwise.exp,
    log=elementwise.log,
    sqrt=elementwise.sqrt,
    abs=elementwise.abs,
    clip=elementwise.clip,
    astype=elementwise.astype,
    sum=reduction.sum,
    mean=reduction.mean,
    max=reduction.max,
    min=reduction.min,
    reshape=shape.reshape,
    permute=shape.permute,
    transpose=shape.transpose,
    flatten=shape.flatten,
    squeeze=shape.squeeze,
    unsqueeze=shape.unsqueeze,
)
