"""Which of two values to take, element by element."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..autograd import Tensor, apply, as_tensor
from ..errors import ShapeError
from .arithmetic import broadcast, two_operands, unbroadcast

if TYPE_CHECKING:
    from collections.abc import Callable

    Gradient = np.ndarray | None

__all__ = [
    "maximum",
    "minimum",
    "where",
]


def maximum(input: Any, other: Any) -> Tensor:
    """The larger of two values, element by element; NaN wins. Equal values share the gradient evenly.

    Parameters
    ----------
    input, other : Tensor, array_like or number
        Of shapes that broadcast.

    Returns
    -------
    Tensor
        Of the shape that they broadcast to.

    Raises
    ------
    ShapeError
        The shapes do not broadcast.
    DTypeError
        Two floating-point tensors have different dtypes.

    Examples
    --------
    >>> maximum([1.0, 5.0], 3)
    Tensor([3., 5.], dtype=float32)
    """
    return _choose("maximum", np.maximum, input, other)


def minimum(input: Any, other: Any) -> Tensor:
    """The smaller of two values, element by element; NaN wins. Equal values share the gradient evenly.

    Parameters
    ----------
    input, other : Tensor, array_like or number
        Of shapes that broadcast.

    Returns
    -------
    Tensor
        Of the shape that they broadcast to.

    Raises
    ------
    ShapeError
        The shapes do not broadcast.
    DTypeError
        Two floating-point tensors have different dtypes.

    Examples
    --------
    >>> minimum([1.0, 5.0], 3)
    Tensor([1., 3.], dtype=float32)
    """
    return _choose("minimum", np.minimum, input, other)


def _choose(name: str, ufunc: Callable[..., Any], input: Any, other: Any) -> Tensor:
    a, b = two_operands(name, input, other)
    value = broadcast(ufunc, a, b)

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[Gradient, ...]:
        won_a, won_b = same_values(a.data, value), same_values(b.data, value)
        shared = grad / (1 + (won_a & won_b).astype(grad.dtype))
        return unbroadcast(shared * won_a, a.shape), unbroadcast(shared * won_b, b.shape)

    return apply(name, (a, b), value, backward)


def where(condition: Any, input: Any, other: Any) -> Tensor:
    """`input` where the condition holds, else `other`; the gradient goes to the one that was chosen.

    Parameters
    ----------
    condition : array_like or Tensor of bool
    input, other : Tensor, array_like or number

    Returns
    -------
    Tensor
        Of the shape that all three broadcast to.

    Raises
    ------
    ShapeError
        The shapes do not broadcast.
    DTypeError
        Two floating-point tensors have different dtypes.

    Examples
    --------
    >>> where(np.array([True, False]), [1.0, 2.0], 0)
    Tensor([1., 0.], dtype=float32)
    """
    a, b = two_operands("where", input, other)
    chosen = np.asarray(as_tensor(condition).data, dtype=bool)
    shape_a, shape_b = a.shape, b.shape
    try:
        value = np.where(chosen, a.data, b.data)
    except ValueError:
        raise ShapeError(f"where: shapes {chosen.shape}, {shape_a} and {shape_b} do not broadcast") from None

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[Gradient, ...]:
        zero = grad.dtype.type(0)
        return (
            unbroadcast(np.where(chosen, grad, zero), shape_a) if needs[0] else None,
            unbroadcast(np.where(chosen, zero, grad), shape_b) if needs[1] else None,
        )

    return apply("where", (a, b), value, backward)


def same_values(values: np.ndarray, extreme: np.ndarray) -> np.ndarray:
    """Where the extreme was taken from; NaN counts as equal to NaN."""
    return (values == extreme) | ((values != values) & (extreme != extreme))
