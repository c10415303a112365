"""From a convolution's signature and its arrays' strides to what a call of them runs: made once, and kept."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import NumbacnnError
from .. import layout
from .._call import Call, make_call
from .._check import check_choice
from .._sizes import as_hashable
from ..memory import Room
from . import signature
from .finish import ACTIVATIONS
from .program import program

if TYPE_CHECKING:
    from collections.abc import Callable

    _Convert = Callable[[np.ndarray], np.ndarray]

# Shape, strides and dtype of an array: all that a call depends on but for its elements and where they lie.
Array = tuple[tuple[int, ...], tuple[int, ...], np.dtype[Any]]


def find(direction: str, *parts: Any) -> Call:
    """The call of two arrays, others that may be None, and options: see `forward` and its like.

    Raises
    ------
    ShapeError, DTypeError, OptionError
        The call is illegal.
    """
    find_call = _DIRECTIONS[direction]
    try:
        return find_call(*parts)
    except TypeError as error:  # a list or an array among the options cannot be a key
        if isinstance(error, NumbacnnError):
            raise
    return find_call(*parts[:2], *map(as_hashable, parts[2:]))


# typed: so that True and 1.0 are refused even after 1 was accepted.
_cached = functools.lru_cache(maxsize=1024, typed=True)


@_cached
def _forward(
    x: Array,
    weight: Array,
    bias: Array | None,
    residual: Array | None,
    activation: str | None,
    *options: Any,
) -> Call:
    problem = signature.find("forward", *map(_without_strides, (x, weight, bias, residual)), *options)
    if activation is not None:
        check_choice("activation", activation, ACTIVATIONS[1:])
    convert = (
        _to_memory(x, problem.batched),
        _to_contiguous(weight),
        _to_contiguous(bias),
        _to_memory(residual, problem.batched),
    )
    finish = residual is not None, ACTIVATIONS.index(activation)
    return _call(problem, convert, bias is not None, *finish)


@_cached
def _backward_data(
    grad_output: Array, weight: Array, bias: Array | None, activation: str | None, *options: Any
) -> Call:
    problem = signature.find("backward_data", *map(_without_strides, (grad_output, weight, bias)), *options)
    if activation is not None:
        check_choice("activation", activation, ACTIVATIONS[1:])
    convert = _to_memory(grad_output, problem.batched), _to_contiguous(weight), _to_contiguous(bias), None
    return _call(problem, convert, bias is not None, False, ACTIVATIONS.index(activation))


@_cached
def _backward_weight(grad_output: Array, x: Array, *options: Any) -> Call:
    problem = signature.find("backward_weight", *map(_without_strides, (grad_output, x)), *options)
    if 0 in grad_output[0]:
        return make_call(_fill_with_zeros, Room(problem.shape, problem.dtype))
    return _call(problem, (_to_memory(grad_output, problem.batched), _to_memory(x, problem.batched)))


_DIRECTIONS: dict[str, Callable[..., Call]] = {
    "forward": _forward,
    "backward_data": _backward_data,
    "backward_weight": _backward_weight,
}


def _without_strides(array: Array | None) -> signature.Operand | None:
    return None if array is None else (array[0], array[2])


def _to_memory(array: Array | None, batched: bool) -> _Convert | None:
    """What makes channels-last memory of an array; None if it is that."""
    if array is None:
        return None
    shape, strides, dtype = array
    axes = (0, *range(2, len(shape)), 1) if batched else (*range(1, len(shape)), 0)
    if layout.fills(shape, strides, axes, dtype.itemsize):
        return None
    return layout.memory_of if batched else _memory_of_sample


def _memory_of_sample(x: np.ndarray) -> np.ndarray:
    return layout.memory_of(x[None])


def _to_contiguous(array: Array | None) -> _Convert | None:
    if array is None or layout.fills(array[0], array[1], range(len(array[0])), array[2].itemsize):
        return None
    return np.ascontiguousarray


def _call(problem: signature.Problem, convert: tuple[_Convert | None, ...], *follows: Any) -> Call:
    choice, shape, dtype = problem.choice, problem.shape, problem.dtype
    strides = None
    if choice.direction != "backward_weight":
        strides = layout.channels_last_memory(shape, dtype.itemsize)
        if not problem.batched:
            shape, strides = shape[1:], strides[1:]
    room = Room(shape, dtype, strides)
    if 0 in shape:
        return make_call(_do_nothing, room)
    p = program(choice.direction, choice.algorithm, choice.geometry, dtype, *follows)
    return make_call(p, room, convert=convert)


def _do_nothing(*arrays: np.ndarray) -> bool:
    return True


def _fill_with_zeros(grad_output: np.ndarray, x: np.ndarray, out: np.ndarray) -> bool:
    out.fill(0)
    return True
