"""Sums, means and extremes along axes."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any

import numpy as np

from ..autograd import Tensor, apply, as_tensor
from ..errors import ShapeError
from .elementwise import float_operand
from .selection import same_values

if TYPE_CHECKING:
    from collections.abc import Callable

    Gradient = np.ndarray | None

__all__ = ["max", "mean", "min", "sum"]


def sum(input: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The sum over all elements, or along some axes.

    Parameters
    ----------
    input : Tensor or array_like
    axis : int or tuple of int, optional
        All axes unless given.
    keepdims : bool, default False
        Keep the summed axes, with extent 1.

    Examples
    --------
    >>> sum([[1.0, 2.0], [3.0, 4.0]], axis=1)
    Tensor([3., 7.], dtype=float32)
    """
    x = as_tensor(input)
    shape = x.shape

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[Gradient, ...]:
        return (np.broadcast_to(_restore_axes(grad, axis, keepdims), shape),)

    return apply("sum", (x,), x.data.sum(axis=axis, keepdims=keepdims), backward)


def mean(input: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The mean of all elements, or along some axes; parameters as for `sum`.

    Examples
    --------
    >>> mean([[1.0, 2.0], [3.0, 4.0]])
    Tensor(2.5, dtype=float32)
    """
    x = float_operand("mean", input)
    value = x.data.mean(axis=axis, keepdims=keepdims)
    shape, count = x.shape, builtins.max(x.numel() // builtins.max(value.size, 1), 1)

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[Gradient, ...]:
        return (np.broadcast_to(_restore_axes(grad / count, axis, keepdims), shape),)

    return apply("mean", (x,), value, backward)


def max(input: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The largest element, or the largest along some axes; parameters as for `sum`.

    NaN wins. Equal largest elements share the gradient evenly (PyTorch's ``amax``); `Tensor.argmax` gives the index
    of the first.

    Examples
    --------
    >>> max([[1.0, 2.0], [4.0, 3.0]], axis=1)
    Tensor([2., 4.], dtype=float32)
    """
    return _extreme("max", np.max, input, axis, keepdims)


def min(input: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The smallest element, or the smallest along some axes; as `max` otherwise.

    Examples
    --------
    >>> min([[1.0, 2.0], [4.0, 3.0]])
    Tensor(1., dtype=float32)
    """
    return _extreme("min", np.min, input, axis, keepdims)


def _extreme(name: str, reduce: Callable[..., Any], input: Any, axis: Any, keepdims: bool) -> Tensor:
    x = as_tensor(input)
    if not x.numel():
        raise ShapeError(f"{name} of a tensor of shape {x.shape}, which has no elements")
    value = reduce(x.data, axis=axis, keepdims=keepdims)

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[Gradient, ...]:
        won = same_values(x.data, _restore_axes(value, axis, keepdims))
        ties = won.sum(axis=axis, keepdims=True, dtype=grad.dtype)
        return (won * (_restore_axes(grad, axis, keepdims) / ties),)

    return apply(name, (x,), value, backward)


def _restore_axes(array: np.ndarray, axis: Any, keepdims: bool) -> np.ndarray:
    """A reduced array with the reduced axes back, at extent 1; reductions of everything broadcast as they are."""
    return array if keepdims or axis is None else np.expand_dims(array, axis)
