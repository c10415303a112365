"""What a convolution's arguments decide before any element is looked at: checked and planned once per signature.

A *signature* is the shapes and dtypes of the arrays together with the options. Everything that can be wrong with a call
is wrong with its signature, so a signature that was met before needs no more checks: a small convolution takes less
time than they do.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...errors import ShapeError
from .._check import check_float_dtype, check_same_dtypes
from .._sizes import Shape
from ..geometry import ConvGeometry, conv_geometry
from . import autotune, plan

if TYPE_CHECKING:
    from collections.abc import Callable

# Shape and dtype of an array.
Operand = tuple[Shape, np.dtype[Any]]


class Problem(NamedTuple):
    """What the calls of one signature compute, and how."""

    choice: plan.Choice
    batched: bool  # whether the arrays have a batch axis
    shape: Shape  # of the result
    dtype: np.dtype[Any]


def find(direction: str, *parts: Any) -> Problem:
    """The problem of a signature: see `_forward`, `_backward_data` and `_backward_weight` for its parts.

    Raises
    ------
    ShapeError, DTypeError, OptionError
        The call is illegal.
    """
    return _DIRECTIONS[direction](*parts)


# typed: so that True and 1.0 are refused even after 1 was accepted.
_cached = functools.lru_cache(maxsize=4096, typed=True)


@_cached
def _forward(
    x: Operand,
    weight: Operand,
    bias: Operand | None,
    residual: Operand | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    padding_mode: Any,
    algorithm: str,
    precision: str,
    warn: bool,
) -> Problem:
    dtype = _check_dtypes(x=x, weight=weight, bias=bias, residual=residual)
    shape, batched = _with_batch(x[0], len(weight[0]))
    geometry = conv_geometry(shape, weight[0], stride, padding, dilation, groups, padding_mode, warn=warn)
    _check_bias(bias, geometry.out_channels)
    _check_residual(residual, geometry.output_shape if batched else geometry.output_shape[1:])
    choice = autotune.choose("forward", geometry, algorithm, precision, dtype)
    return Problem(choice, batched, geometry.output_shape, dtype)


@_cached
def _backward_data(
    grad_output: Operand,
    weight: Operand,
    bias: Operand | None,
    input_shape: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    padding_mode: Any,
    algorithm: str,
    precision: str,
) -> Problem:
    dtype = _check_dtypes(grad_output=grad_output, weight=weight, bias=bias)
    grad_shape, batched = _with_batch(grad_output[0], len(weight[0]))
    shape = tuple(input_shape) if batched else (1, *input_shape)
    geometry = conv_geometry(shape, weight[0], stride, padding, dilation, groups, padding_mode, warn=False)
    _check_grad_output(grad_shape, geometry)
    _check_bias(bias, geometry.in_channels)
    choice = autotune.choose("backward_data", geometry, algorithm, precision, dtype)
    return Problem(choice, batched, geometry.input_shape, dtype)


@_cached
def _backward_weight(
    grad_output: Operand,
    x: Operand,
    weight_shape: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    padding_mode: Any,
    algorithm: str,
    precision: str,
) -> Problem:
    dtype = _check_dtypes(grad_output=grad_output, x=x)
    weight_shape = tuple(weight_shape)
    x_shape, batched = _with_batch(x[0], len(weight_shape))
    grad_shape, _ = _with_batch(grad_output[0], len(weight_shape))
    geometry = conv_geometry(x_shape, weight_shape, stride, padding, dilation, groups, padding_mode, warn=False)
    _check_grad_output(grad_shape, geometry)
    choice = autotune.choose("backward_weight", geometry, algorithm, precision, dtype)
    return Problem(choice, batched, geometry.weight_shape, dtype)


_DIRECTIONS: dict[str, Callable[..., Problem]] = {
    "forward": _forward,
    "backward_data": _backward_data,
    "backward_weight": _backward_weight,
}


def _check_dtypes(**operands: Operand | None) -> np.dtype[Any]:
    dtypes = {name: None if operand is None else operand[1] for name, operand in operands.items()}
    for name, dtype in dtypes.items():
        if dtype is not None:
            check_float_dtype(name, dtype)
    return check_same_dtypes(**dtypes)


def _with_batch(shape: Shape, ndim: int) -> tuple[Shape, bool]:
    """The shape with a batch axis, and whether it had one."""
    return ((1, *shape), False) if len(shape) == ndim - 1 else (shape, True)


def _check_bias(bias: Operand | None, channels: int) -> None:
    if bias is not None and bias[0] != (channels,):
        raise ShapeError(f"bias must have shape ({channels},), one value per output channel; got {bias[0]}")


def _check_residual(residual: Operand | None, shape: Shape) -> None:
    if residual is not None and residual[0] != shape:
        raise ShapeError(f"residual must have the shape of the result, {shape}; got {residual[0]}")


def _check_grad_output(shape: Shape, geometry: ConvGeometry) -> None:
    if shape != geometry.output_shape:
        raise ShapeError(
            f"grad_output has shape {shape}, but convolving input {geometry.input_shape} with weight "
            f"{geometry.weight_shape} gives {geometry.output_shape}"
        )
