"""Losses on arrays: the value and, if asked for, its gradient from the same pass."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from ..errors import DTypeError, OptionError, ShapeError
from ..kernels import loss as kernels
from ..kernels._operands import Operand
from ..kernels._program import Program
from ._call import Call, make_call
from ._check import check_choice, check_float, check_same_dtype, check_tensor_like
from ._dense import dense, empty_like, in_memory_of
from .layout import channels_last, channels_last_memory, conversion, fills
from .memory import Room

__all__ = ["absolute_error", "cross_entropy", "squared_error"]

REDUCTIONS = ("mean", "sum", "none")
_INDEX, _DOUBLE = np.dtype(np.int64), np.dtype(np.float64)
STEP = 16384
# Nanoseconds per element on one core: decide only whether sharing the work pays.
NS_EXP = 2.0
NS_ERROR = 0.5
# Probabilities nearer to 0 or 1 than this are taken for this.
PROBABILITY_LIMIT = 1e-7


class _Shares(NamedTuple):
    """A checked target as shares of the classes, and what the mean divides by."""

    values: np.ndarray
    divisor: float


def cross_entropy(
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    from_probabilities: bool = False,
    with_grad: bool = False,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Cross-entropy between the target and the softmax of `x` over axis 1.

    Parameters
    ----------
    x : ndarray, shape (N, C) or (N, C, *spatial)
        Logits; or probabilities, with `from_probabilities`.
    target : ndarray
        Class indices, of shape (N, *spatial) and any integer dtype; or shares of the classes (one-hot or soft), of
        the shape of `x`.
    weight : ndarray, shape (C,), optional
        What each class counts.
    ignore_index : int, default -100
        A class index whose positions count nothing.
    reduction : {"mean", "sum", "none"}, default "mean"
        For class indices the mean divides by the sum of the weights of the targets that are not ignored (without
        weights, by their number); for shares by the number of positions.
    label_smoothing : float, default 0.0
        Share of the target, from 0 to 1, that is spread evenly over the classes.
    from_probabilities : bool, default False
        `x` holds probabilities; they are clipped to [1e-7, 1 - 1e-7], where the gradient is 0.
    with_grad : bool, default False
        Compute the gradient with respect to `x`, too.

    Returns
    -------
    loss : ndarray
        Of shape () or, for "none", (N, *spatial).
    grad : ndarray or None
        The gradient of the loss (for "none", of each position's loss), of the shape of `x` in channels-last memory.

    Raises
    ------
    ShapeError
        The shapes do not fit.
    OptionError
        A class index is out of range; the message names it and where it is. An option is out of range.
    DTypeError
        `x` is not float32 or float64, or the target is neither integers nor of the dtype of `x`.

    Examples
    --------
    >>> loss, grad = cross_entropy(np.log([[0.5, 0.25, 0.25]]), np.array([0]), with_grad=True)
    >>> bool(np.isclose(loss, np.log(2))), grad
    (True, array([[-0.5 ,  0.25,  0.25]]))
    """
    x, target = check_float("input", x), check_tensor_like("target", target)
    check_choice("reduction", reduction, REDUCTIONS)
    if not 2 <= x.ndim <= 5 or x.shape[1] == 0:
        raise ShapeError(
            f"cross_entropy needs an input of shape (N, C) or (N, C, *spatial) with at least one class, got {x.shape}"
        )
    if not 0 <= label_smoothing <= 1:
        raise OptionError(f"label_smoothing must be from 0 to 1, got {label_smoothing}")
    if not from_probabilities:
        counts = None if weight is None else check_tensor_like("weight", weight)
        call = _labels_call(
            x.shape, x.strides, x.dtype, target.shape, target.strides, target.dtype,
            None if counts is None else (counts.shape, counts.strides, counts.dtype),
            ignore_index, reduction, label_smoothing, with_grad,
        )  # fmt: skip
        if call is not None:
            value, state, *grads = call(x, target, counts)
            if state.item(kernels.WRONG):
                _check_range(target, target != ignore_index, x.shape[1])
            return value, grads[0] if grads else None
    given = None if weight is None else _class_weights(weight, x)
    x = np.ascontiguousarray(x) if x.ndim == 2 else channels_last(x)
    shares = _check_target(target, x, given, ignore_index)
    classes = x.shape[1]
    weights = _ones(classes, x.dtype) if given is None else given
    rows = x.size // classes
    loss = np.empty(rows, x.dtype)
    grad = empty_like(x) if with_grad else loss
    scale = _scale(reduction, shares.divisor)
    kernel: Any = kernels.cross_entropy_soft
    options: tuple[float, ...] = (label_smoothing,)
    if from_probabilities:
        kernel, options = kernels.cross_entropy_probabilities, (*options, PROBABILITY_LIMIT, 1 - PROBABILITY_LIMIT)
    layout = _rows(rows, classes, with_grad)
    blocks = -(-rows // layout.step)
    kernel(blocks, x, shares.values, weights, loss, grad, layout, *options, scale, cost=NS_EXP * x.size)
    if reduction == "none":
        value = loss.reshape(x.shape[:1] + x.shape[2:])
    else:
        value = np.asarray(np.add.reduce(loss, dtype=np.float64) * scale, x.dtype)
    return value, grad if with_grad else None


@functools.lru_cache(maxsize=256)
def _labels_call(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    dtype: np.dtype[Any],
    target_shape: tuple[int, ...],
    target_strides: tuple[int, ...],
    target_dtype: np.dtype[Any],
    weight: tuple[tuple[int, ...], tuple[int, ...], np.dtype[Any]] | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
    with_grad: bool,
) -> Call | None:
    """The call of an input, class indices and weights: the loss, what `check_labels` found, and perhaps the gradient.

    None if the target is something else, or its weights are illegal.
    """
    positions = shape[:1] + shape[2:]
    if target_shape != positions or target_dtype.kind not in "iu":
        return None
    if weight is not None and (weight[0] != shape[1:2] or weight[2] != dtype):
        return None
    rows, classes = math.prod(positions), shape[1]
    x, target = Operand(shape, dtype), Operand(positions, _INDEX)
    weights = None if weight is None else Operand((classes,), dtype)
    counts = weights or _ones(classes, dtype)
    factors, state = Operand((2,), dtype), Operand((kernels.STATE_SLOTS,), _DOUBLE)
    loss, grad = Operand(positions, dtype), Operand(shape, dtype)
    layout = _rows(rows, classes, with_grad)
    check = kernels.check_labels.prepare(
        (dtype,), 1, rows, classes, ignore_index, weight is not None, reduction == "mean", cost=float(rows)
    )
    losses = kernels.cross_entropy_indices.prepare(
        (dtype,), -(-rows // layout.step), layout, ignore_index, label_smoothing, cost=NS_EXP * rows * classes
    )
    steps = [
        check.on(target, counts, factors, state),
        losses.on(x, target, counts, loss, grad if with_grad else loss, factors, state),
    ]
    value, room = loss, Room(positions, dtype)
    if reduction != "none":
        value, room = Operand((), dtype), Room((), dtype)
        steps.append(kernels.sum_losses.prepare((dtype,), 1, rows, cost=float(rows)).on(loss, state, value))
    rooms, results = [room, Room((kernels.STATE_SLOTS,), _DOUBLE)], [value, state]
    if with_grad:
        rooms.append(Room(shape, dtype, channels_last_memory(shape, dtype.itemsize)))
        results.append(grad)
    program = Program(steps, (x, target, weights, *results))
    as_it_is = target_dtype == _INDEX and fills(positions, target_strides, range(len(positions)), _INDEX.itemsize)
    contiguous = weight is None or weight[1] == (dtype.itemsize,)
    convert = (
        conversion(shape, strides, dtype.itemsize),
        None if as_it_is else _as_indices,
        None if contiguous else np.ascontiguousarray,
    )
    return make_call(program, *rooms, convert=convert)


def _as_indices(target: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(target, np.int64)


def _rows(rows: int, classes: int, with_grad: bool) -> kernels.Rows:
    return kernels.Rows(rows, classes, max(1, STEP // classes), int(with_grad))


def squared_error(
    x: np.ndarray, y: np.ndarray, *, reduction: str = "mean", with_grad: bool = False
) -> tuple[np.ndarray, np.ndarray | None]:
    """``(x - y)**2``: its mean over all elements, its sum, or all of them.

    Parameters
    ----------
    x, y : ndarray
        Of one shape and dtype.
    reduction : {"mean", "sum", "none"}, default "mean"
    with_grad : bool, default False
        Compute the gradient with respect to `x`, too; that with respect to `y` is its negative.

    Returns
    -------
    loss : ndarray
        Of shape () or, for "none", that of `x`.
    grad : ndarray or None

    Examples
    --------
    >>> squared_error(np.array([1.0, 3.0]), np.zeros(2), with_grad=True)
    (array(5.), array([1., 3.]))
    """
    return _elementwise(kernels.squared_error, (), lambda d: d * d, x, y, reduction, with_grad)


def absolute_error(
    x: np.ndarray, y: np.ndarray, *, beta: float = 0.0, reduction: str = "mean", with_grad: bool = False
) -> tuple[np.ndarray, np.ndarray | None]:
    """The smooth absolute error: ``d**2 / (2 * beta)`` for ``d = |x - y|`` below `beta`, ``d - beta / 2`` above.

    Parameters
    ----------
    x, y : ndarray
        Of one shape and dtype.
    beta : float, default 0.0
        Where the loss changes from quadratic to linear; 0 gives the plain absolute error, with gradient 0 at 0.
    reduction : {"mean", "sum", "none"}, default "mean"
    with_grad : bool, default False
        Compute the gradient with respect to `x`, too; that with respect to `y` is its negative.

    Returns
    -------
    loss : ndarray
        Of shape () or, for "none", that of `x`.
    grad : ndarray or None

    Examples
    --------
    >>> absolute_error(np.array([0.5, 3.0]), np.zeros(2), beta=1.0, reduction="none")[0]
    array([0.125, 2.5  ])
    """
    if not beta >= 0:
        raise OptionError(f"beta must not be negative, got {beta}")

    def values(difference: np.ndarray) -> np.ndarray:
        distance = np.abs(difference)
        if beta == 0:
            return distance
        return np.where(
            distance < beta, distance * distance * x.dtype.type(0.5 / beta), distance - x.dtype.type(beta / 2)
        )

    return _elementwise(kernels.absolute_error, (beta,), values, x, y, reduction, with_grad)


def _elementwise(
    kernel: Any, options: tuple[float, ...], values: Any, x: np.ndarray, y: np.ndarray, reduction: str, with_grad: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    x, y = check_float("input", x), check_float("target", y)
    check_same_dtype(input=x, target=y)
    check_choice("reduction", reduction, REDUCTIONS)
    if x.shape != y.shape:
        raise ShapeError(f"input and target must have the same shape, got {x.shape} and {y.shape}")
    x = dense(x)
    y = in_memory_of(x, y)
    partial = np.zeros(-(-x.size // STEP))
    scale = _scale(reduction, x.size)
    grad = empty_like(x) if with_grad else x
    kernel(partial.size, x, y, partial, grad, x.size, *options, scale, int(with_grad), STEP, cost=NS_ERROR * x.size)
    value = np.asarray(values(x - y)) if reduction == "none" else np.asarray(partial.sum() * scale, x.dtype)
    return value, grad if with_grad else None


def _scale(reduction: str, divisor: float) -> float:
    """What the sum is multiplied by; the mean of nothing is not a number."""
    if reduction != "mean":
        return 1.0
    return 1 / divisor if divisor else math.nan


@functools.lru_cache(maxsize=64)
def _ones(count: int, dtype: np.dtype[Any]) -> np.ndarray:
    return np.ones(count, dtype)


def _class_weights(weight: np.ndarray, x: np.ndarray) -> np.ndarray:
    weight = check_float("weight", weight)
    check_same_dtype(input=x, weight=weight)
    if weight.shape != x.shape[1:2]:
        raise ShapeError(f"weight must have one element per class, shape {x.shape[1:2]}, got shape {weight.shape}")
    return np.ascontiguousarray(weight)


def _check_target(target: np.ndarray, x: np.ndarray, weight: np.ndarray | None, ignore_index: int) -> _Shares:
    positions = x.shape[:1] + x.shape[2:]
    if target.shape == positions and target.dtype.kind in "iu":
        indices = _as_indices(target)
        counted = indices != ignore_index
        _check_range(indices, counted, x.shape[1])
        counts = indices[counted]
        divisor = float(counts.size if weight is None else weight[counts].sum(dtype=np.float64))
        return _Shares(_one_hot(indices, counted, x), divisor)
    if target.shape == x.shape:
        if target.dtype.kind in "iub":
            target = target.astype(x.dtype)
        elif target.dtype != x.dtype:
            raise DTypeError(f"target is {target.dtype} but input is {x.dtype}; convert it with .astype(np.{x.dtype})")
        return _Shares(in_memory_of(x, target), float(x.size // x.shape[1]))
    if target.shape == positions:
        raise DTypeError(f"class indices must be integers, got a target of dtype {target.dtype}")
    raise ShapeError(
        f"for an input of shape {x.shape} the target must be class indices of shape {positions} "
        f"or shares of the classes of shape {x.shape}; got shape {target.shape}"
    )


def _check_range(indices: np.ndarray, counted: np.ndarray, classes: int) -> None:
    wrong = counted & ((indices < 0) | (indices >= classes))
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise OptionError(
            f"class index {indices[where]} at position {where if len(where) > 1 else where[0]} of the target is out "
            f"of range for {classes} classes (0 to {classes - 1})"
        )


def _one_hot(indices: np.ndarray, counted: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Class indices as shares, in the memory order of `x`; rows that are not counted are 0."""
    shares = empty_like(x)
    shares[...] = 0
    rows = np.moveaxis(shares, 1, -1)
    rows[counted, indices[counted]] = 1
    return shares
