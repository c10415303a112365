"""Arithmetic, element-wise functions and matrix products, broadcasting as in NumPy.

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

if TYPE_CHECKING:
    from collections.abc import Callable

    Gradient = np.ndarray | None

__all__ = [
    "abs",
    "add",
    "astype",
    "clip",
    "div",
    "exp",
    "log",
    "matmul",
    "maximum",
    "minimum",
    "mul",
    "neg",
    "pow",
    "sqrt",
    "sub",
    "where",
]


def add(input: Any, other: Any) -> Tensor:
    """``input + other``.

    Examples
    --------
    >>> add([1.0, 2.0], 1)
    Tensor([2., 3.], dtype=float32)
    """
    a, b = _operands("add", input, other)
    shape_a, shape_b = a.shape, b.shape

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[Gradient, ...]:
        return (
            unbroadcast(grad, shape_a) if needs[0] else None,
            unbroadcast(grad, shape_b) if needs[1] else None,
        )

    return apply("add", (a, b), _broadcast(np.add, a, b), backward)


def sub(input: Any, other: Any) -> Tensor:
    """``input - other``.

    Examples
    --------
    >>> sub(1, [1.0, 2.0])
    Tensor([ 0., -1.], dtype=float32)
    """
    a, b = _operands("sub", input, other)
    shape_a, shape_b = a.shape, b.shape

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[Gradient, ...]:
        return (
            unbroadcast(grad, shape_a) if needs[0] else None,
            ops.arithmetic.negative(unbroadcast(grad, shape_b)) if needs[1] else None,
        )

    return apply("sub", (a, b), _broadcast(np.subtract, a, b), backward)


def mul(input: Any, other: Any) -> Tensor:
    """``input * other``, element by element.

    Examples
    --------
    >>> mul([1.0, 2.0], [[2.0], [3.0]])
    Tensor([[2., 4.],
            [3., 6.]], dtype=float32)
    """
    a, b = _operands("mul", input, other)
    shape_a, shape_b = a.shape, b.shape
    saved_a, saved_b = _saved(a, b), _saved(b, a)

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[Gradient, ...]:
        return (
            unbroadcast(ops.arithmetic.elementwise(np.multiply, grad, saved_b), shape_a) if needs[0] else None,
            unbroadcast(ops.arithmetic.elementwise(np.multiply, grad, saved_a), shape_b) if needs[1] else None,
        )

    return apply("mul", (a, b), _broadcast(np.multiply, a, b), backward)


def div(input: Any, other: Any) -> Tensor:
    """``input / other``.

    Examples
    --------
    >>> div([1.0, 2.0], 4)
    Tensor([0.25, 0.5 ], dtype=float32)
    """
    a, b = _operands("div", input, other)
    value = _broadcast(np.true_divide, a, b)
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

    Examples
    --------
    >>> pow([1.0, 2.0, 3.0], 2)
    Tensor([1., 4., 9.], dtype=float32)
    """
    if isinstance(exponent, (int, float)) and not isinstance(exponent, bool):
        return _pow_number(float_operand("pow", input), exponent)
    a, b = _operands("pow", input, exponent)
    value = _broadcast(np.power, a, b)

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


def neg(input: Any) -> Tensor:
    """``-input``.

    Examples
    --------
    >>> neg([1.0, -2.0])
    Tensor([-1.,  2.], dtype=float32)
    """
    x = as_tensor(input)
    return apply("neg", (x,), ops.arithmetic.negative(x.data), lambda grad, needs: (ops.arithmetic.negative(grad),))


def exp(input: Any) -> Tensor:
    """The exponential function.

    Examples
    --------
    >>> exp([0.0, 1.0])
    Tensor([1.      , 2.71828...], dtype=float32)
    """
    x = float_operand("exp", input)
    value = np.exp(x.data)
    return apply("exp", (x,), value, lambda grad, needs: (grad * value,))


def log(input: Any) -> Tensor:
    """The natural logarithm.

    Examples
    --------
    >>> log([1.0, 2.0])
    Tensor([0.       , 0.6931472], dtype=float32)
    """
    x = float_operand("log", input)
    return apply("log", (x,), np.log(x.data), lambda grad, needs: (grad / x.data,))


def sqrt(input: Any) -> Tensor:
    """The square root; its gradient at 0 is infinite.

    Examples
    --------
    >>> sqrt([4.0, 9.0])
    Tensor([2., 3.], dtype=float32)
    """
    x = float_operand("sqrt", input)
    value = np.sqrt(x.data)
    return apply("sqrt", (x,), value, lambda grad, needs: (grad / (2 * value),))


def abs(input: Any) -> Tensor:
    """The absolute value; its gradient at 0 is 0.

    Examples
    --------
    >>> abs([-1.0, 2.0])
    Tensor([1., 2.], dtype=float32)
    """
    x = as_tensor(input)
    return apply("abs", (x,), np.abs(x.data), lambda grad, needs: (grad * np.sign(x.data),))


def clip(input: Any, min: float | None = None, max: float | None = None) -> Tensor:
    """Values limited to [min, max]; NaN stays NaN. The gradient is 1 inside and on the limits, 0 outside.

    Parameters
    ----------
    input : Tensor or array_like
    min, max : number, optional
        None is no limit.

    Examples
    --------
    >>> clip([-1.0, 0.5, 2.0], 0, 1)
    Tensor([0. , 0.5, 1. ], dtype=float32)
    """
    x = as_tensor(input)
    low, high = (limit if limit is None else x.dtype.type(limit) for limit in (min, max))
    value = x.data if low is None else np.maximum(x.data, low)
    value = value if high is None else np.minimum(value, high)

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[Gradient, ...]:
        outside = np.zeros(x.shape, bool)
        if low is not None:
            outside |= x.data < low
        if high is not None:
            outside |= x.data > high
        return (np.where(outside, grad.dtype.type(0), grad),)

    return apply("clip", (x,), value, backward)


def maximum(input: Any, other: Any) -> Tensor:
    """The larger of two values, element by element; NaN wins. Equal values share the gradient evenly.

    Examples
    --------
    >>> maximum([1.0, 5.0], 3)
    Tensor([3., 5.], dtype=float32)
    """
    return _choose("maximum", np.maximum, input, other)


def minimum(input: Any, other: Any) -> Tensor:
    """The smaller of two values, element by element; NaN wins. Equal values share the gradient evenly.

    Examples
    --------
    >>> minimum([1.0, 5.0], 3)
    Tensor([1., 3.], dtype=float32)
    """
    return _choose("minimum", np.minimum, input, other)


def _choose(name: str, ufunc: Callable[..., Any], input: Any, other: Any) -> Tensor:
    a, b = _operands(name, input, other)
    value = _broadcast(ufunc, a, b)

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

    Examples
    --------
    >>> where(np.array([True, False]), [1.0, 2.0], 0)
    Tensor([1., 0.], dtype=float32)
    """
    a, b = _operands("where", input, other)
    chosen = np.asarray(as_tensor(condition).data, dtype=bool)

    shape_a, shape_b = a.shape, b.shape

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[Gradient, ...]:
        zero = grad.dtype.type(0)
        return (
            unbroadcast(np.where(chosen, grad, zero), shape_a) if needs[0] else None,
            unbroadcast(np.where(chosen, zero, grad), shape_b) if needs[1] else None,
        )

    return apply("where", (a, b), np.where(chosen, a.data, b.data), backward)


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
    a, b = _operands("matmul", input, other)
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


def astype(input: Any, dtype: Any) -> Tensor:
    """The same values in another dtype; the gradient comes back in the old one.

    Examples
    --------
    >>> astype(np.array([0, 255], np.uint8), np.float32)
    Tensor([  0., 255.], dtype=float32)
    """
    x = as_tensor(input)
    dtype = np.dtype(dtype)
    if x.requires_grad and dtype.kind != "f":
        raise DTypeError(f"a tensor that requires a gradient cannot become {dtype}; use .detach() first")
    return apply("astype", (x,), x.data.astype(dtype, copy=False), lambda grad, needs: (grad.astype(x.dtype),))


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


def _operands(name: str, first: Any, second: Any) -> tuple[Tensor, Tensor]:
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


def float_operand(name: str, input: Any) -> Tensor:
    """A floating-point tensor."""
    x = as_tensor(input)
    if x.dtype.kind != "f":
        raise DTypeError(f"{name} needs floating-point values, got {x.dtype}; convert with .astype(np.float32)")
    return x


def _broadcast(ufunc: Callable[..., Any], a: Tensor, b: Tensor) -> Any:
    try:
        return ops.arithmetic.elementwise(ufunc, a.data, b.data)
    except ValueError:
        raise ShapeError(f"{ufunc.__name__}: shapes {a.shape} and {b.shape} do not broadcast") from None


def same_values(values: np.ndarray, extreme: np.ndarray) -> np.ndarray:
    """Where the extreme was taken from; NaN counts as equal to NaN."""
    return (values == extreme) | ((values != values) & (extreme != extreme))
