"""Arithmetic of two operands and matrix products, broadcasting as in NumPy.

Operands are tensors, arrays or numbers. Numbers and arrays without axes take the dtype of the other operand, as do
integers and bools (masks, for instance): nothing turns a float32 network into a float64 one. Two floating-point
tensors of different dtypes are refused.

Special values follow NumPy, and so do its floating-point warnings (`numpy.errstate`), but for sums, differences and
products of large arrays: those are computed on all cores, without warnings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import ops
from ..autograd import Tensor, apply, as_tensor
from ..errors import DTypeError, ShapeError
from .elementwise import astype, float_operand

if TYPE_CHECKING:
    from collections.abc import Callable

    Gradient = np.ndarray | None

__all__ = [
    "add",
    "div",
    "matmul",
    "mul",
    "pow",
    "sub",
]


def add(input: Any, other: Any) -> Tensor:
    """``input + other``.

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
    >>> add([1.0, 2.0], 1)
    Tensor([2., 3.], dtype=float32)
    """
    a, b = two_operands("add", input, other)
    shape_a, shape_b = a.shape, b.shape

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[Gradient, ...]:
        return (
            unbroadcast(grad, shape_a) if needs[0] else None,
            unbroadcast(grad, shape_b) if needs[1] else None,
        )

    return apply("add", (a, b), broadcast(np.add, a, b), backward)


def sub(input: Any, other: Any) -> Tensor:
    """``input - other``.

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
    >>> sub(1, [1.0, 2.0])
    Tensor([ 0., -1.], dtype=float32)
    """
    a, b = two_operands("sub", input, other)
    shape_a, shape_b = a.shape, b.shape

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[Gradient, ...]:
        return (
            unbroadcast(grad, shape_a) if needs[0] else None,
            ops.arithmetic.negative(unbroadcast(grad, shape_b)) if needs[1] else None,
        )

    return apply("sub", (a, b), broadcast(np.subtract, a, b), backward)


def mul(input: Any, other: Any) -> Tensor:
    """``input * other``, element by element.

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
    >>> mul([1.0, 2.0], [[2.0], [3.0]])
    Tensor([[2., 4.],
            [3., 6.]], dtype=float32)
    """
    a, b = two_operands("mul", input, other)
    shape_a, shape_b = a.shape, b.shape
    saved_a, saved_b = _saved(a, b), _saved(b, a)

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[Gradient, ...]:
        return (
            unbroadcast(ops.arithmetic.elementwise(np.multiply, grad, saved_b), shape_a) if needs[0] else None,
            unbroadcast(ops.arithmetic.elementwise(np.multiply, grad, saved_a), shape_b) if needs[1] else None,
        )

    return apply("mul", (a, b), broadcast(np.multiply, a, b), backward)


def div(input: Any, other: Any) -> Tensor:
    """``input / other``.

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
    >>> div([1.0, 2.0], 4)
    Tensor([0.25, 0.5 ], dtype=float32)
    """
    a, b = two_operands("div", input, other)
    value = broadcast(np.true_divide, a, b)
    shape_a, divisor = a.shape, b.data
    quotient = value if b.requires_grad else None

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[Gradient, ...]:
        scaled = ops.arithmetic.elementwise(np.true_divide, grad, divisor)
        return (
            unbroadcast(scaled, shape_a) if needs[0] else None,
            -unbroadcast(ops.arithmetic.elementwise(np.multiply, scaled, quotient), divisor.shape)
            if needs[1]
            else None,
        )

    return apply("div", (a, b), value, backward)


def pow(input: Any, exponent: Any) -> Tensor:
    """``input ** exponent``.

    The gradient with respect to the exponent is 0 where the base is 0; that with respect to the base is 0 where the
    exponent is 0.

    Parameters
    ----------
    input : Tensor or array_like
    exponent : Tensor, array_like or number
        Of a shape that broadcasts with that of `input`.

    Returns
    -------
    Tensor
        Of the shape that they broadcast to.

    Raises
    ------
    ShapeError
        The shapes do not broadcast.
    DTypeError
        Two floating-point tensors have different dtypes, or integers are raised to a number.

    Examples
    --------
    >>> pow([1.0, 2.0, 3.0], 2)
    Tensor([1., 4., 9.], dtype=float32)
    """
    if isinstance(exponent, (int, float)) and not isinstance(exponent, bool):
        return _pow_number(float_operand("pow", input), exponent)
    a, b = two_operands("pow", input, exponent)
    value = broadcast(np.power, a, b)

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[Gradient, ...]:
        grad_base = grad_exponent = None
        if needs[0]:
            slope = np.power(a.data, np.where(b.data == 0, 1, b.data - 1))
            grad_base = unbroadcast(grad * b.data * slope, a.shape)
        if needs[1]:
            logarithm = np.log(np.where(a.data == 0, 1, a.data))
            grad_exponent = unbroadcast(grad * value * logarithm, b.shape)
        return grad_base, grad_exponent

    return apply("pow", (a, b), value, backward)


def _pow_number(x: Tensor, exponent: float) -> Tensor:
    base = x.data
    if base.ndim == 0 and base.dtype.kind == "f":  # beside no axes, NumPy 1 takes a Python number for a float64
        exponent = base.dtype.type(exponent)

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[Gradient, ...]:
        return (grad * (exponent * base ** (exponent - 1)) if exponent else np.zeros_like(base),)

    return apply("pow", (x,), base**exponent, backward)


def matmul(input: Any, other: Any) -> Tensor:
    """The matrix product ``input @ other``, with NumPy's rules for one-axis operands and for batches.

    Parameters
    ----------
    input : Tensor or array_like, shape (..., n, k) or (k,)
    other : Tensor or array_like, shape (..., k, m) or (k,)

    Raises
    ------
    ShapeError
        The inner extents differ, the batches do not broadcast, or an operand has no axis.

    Examples
    --------
    >>> matmul([[1.0, 2.0], [3.0, 4.0]], [1.0, 1.0])
    Tensor([3., 7.], dtype=float32)
    """
    a, b = two_operands("matmul", input, other)
    value = ops.matmul.matmul(a.data, b.data)

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[Gradient, ...]:
        # One-axis operands as matrices: a row on the left, a column on the right.
        left = a.data if a.ndim > 1 else a.data[None, :]
        right = b.data if b.ndim > 1 else b.data[:, None]
        grad = grad if b.ndim > 1 else grad[..., None]
        grad = grad if a.ndim > 1 else grad[..., None, :]
        grad_a = grad_b = None
        if needs[0]:
            grad_a = unbroadcast(ops.matmul.matmul(grad, np.swapaxes(right, -1, -2)), left.shape).reshape(a.shape)
        if needs[1]:
            grad_b = unbroadcast(ops.matmul.matmul(np.swapaxes(left, -1, -2), grad), right.shape).reshape(b.shape)
        return grad_a, grad_b

    return apply("matmul", (a, b), value, backward)


def unbroadcast(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The gradient of an operand of `shape` that was broadcast to the gradient's shape: summed over its copies.

    Examples
    --------
    >>> unbroadcast(np.ones((4, 3)), (3,))
    array([4., 4., 4.])
    """
    if gradient.shape == shape:
        return gradient
    extra = gradient.ndim - len(shape)
    axes = [extra + axis for axis, extent in enumerate(shape) if extent == 1 and gradient.shape[extra + axis] != 1]
    return gradient.sum(axis=(*range(extra), *axes), keepdims=True).reshape(shape)


def two_operands(name: str, first: Any, second: Any) -> tuple[Tensor, Tensor]:
    """Two tensors of one dtype."""
    if _is_number(first):
        b = as_tensor(second)
        a = _number_like(first, b)
    else:
        a = as_tensor(first)
        b = _number_like(second, a) if _is_number(second) else as_tensor(second)
    if a.dtype != b.dtype:
        if a.dtype.kind == b.dtype.kind == "f":
            raise DTypeError(
                f"{name}: operands are {a.dtype} and {b.dtype}; convert one of them, e.g. with .astype(np.{a.dtype})"
            )
        if a.dtype.kind == "f":
            b = astype(b, a.dtype)
        elif b.dtype.kind == "f":
            a = astype(a, b.dtype)
    return a, b


def _is_number(operand: Any) -> bool:
    """Whether an operand is a single value that is not a tensor; it takes the dtype of the operand beside it."""
    return isinstance(operand, (int, float)) or (not isinstance(operand, Tensor) and np.ndim(operand) == 0)


def _number_like(number: Any, other: Tensor) -> Tensor:
    return Tensor(np.asarray(number, other.dtype)) if other.dtype.kind == "f" else as_tensor(number)


def _saved(operand: Tensor, other: Tensor) -> Any:
    """The values of an operand, if the gradient of the other one will need them."""
    return operand.data if other.requires_grad else None


def broadcast(ufunc: Callable[..., Any], a: Tensor, b: Tensor) -> Any:
    """``ufunc(a, b)``, or a ShapeError that names both shapes."""
    try:
        return ops.arithmetic.elementwise(ufunc, a.data, b.data)
    except ValueError:
        raise ShapeError(f"{ufunc.__name__}: shapes {a.shape} and {b.shape} do not broadcast") from None
