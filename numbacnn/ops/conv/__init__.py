"""Convolution of one, two or three spatial axes: forward and both gradients, ndarray in, ndarray out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ShapeError
from .. import layout
from .._check import check_choice, check_float, check_float_dtype, check_tensor_like
from ..geometry import conv_geometry
from . import autotune, bias_gradient, calls, plan
from .plan import Choice
from .precision import resolve

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["conv_backward_bias", "conv_backward_data", "conv_backward_weight", "conv_forward", "explain"]


def conv_forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: Any = "zeros",
    residual: np.ndarray | None = None,
    activation: str | None = None,
    algorithm: str = "auto",
    precision: str | None = None,
    warn: bool = True,
) -> np.ndarray:
    r"""Convolve (cross-correlate) a batch.

    .. math:: y_o = f\left(b + \sum_k x_{S o + D k - P} \, w_k + r_o\right)

    Parameters
    ----------
    x : ndarray
        (N, C_in, *spatial) or, unbatched, (C_in, *spatial); one to three spatial axes, float32 or float64, any strides.
    weight : ndarray
        (C_out, C_in / groups, *kernel), of the dtype of `x`.
    bias : ndarray, optional
        (C_out,).
    stride, dilation : int or sequence of int, default 1
        Per axis.
    padding : int, sequence or str, default 0
        One integer, one per axis, one (low, high) pair per axis, or "valid", "same", "same_lower", "same_size",
        "causal".
    groups : int, default 1
        Divides both channel counts; ``groups=C_in`` is a depthwise convolution.
    padding_mode : str or sequence of str, default "zeros"
        "zeros", "reflect", "replicate" or "circular", for all axes or per axis.
    residual : ndarray, optional
        :math:`r`, of the shape of the result: added to it.
    activation : {"relu", "relu6"}, optional
        :math:`f`, applied last. Both are done where the result is written, if the algorithm can, and give the same
        bits as separate calls.
    algorithm : str, default "auto"
        Force one of the algorithms that `explain` names.
    precision : {"fast", "exact"}, optional
        Whether "auto" may choose an algorithm with larger rounding errors; see `numbacnn.precision`. Default: what the
        surrounding ``with precision(...)`` says, else "fast".
    warn : bool, default True
        Whether to warn of samples that are never read (a transposed convolution's gradient leaves them out on purpose).

    Returns
    -------
    ndarray
        (N, C_out, *output) with channels-last memory.

    Raises
    ------
    ShapeError, DTypeError, OptionError
        Before anything is computed.

    References
    ----------
    Dukhan, "The Indirect Convolution Algorithm", 2019.

    Examples
    --------
    >>> x = np.arange(5.0).reshape(1, 1, 5)
    >>> conv_forward(x, np.array([[[1.0, 0.0, -1.0]]]), padding=1)
    array([[[-1., -2., -2., -2.,  3.]]])
    """
    x, weight = check_tensor_like("x", x), check_tensor_like("weight", weight)
    bias = None if bias is None else check_tensor_like("bias", bias)
    residual = None if residual is None else check_tensor_like("residual", residual)
    call = calls.find(
        "forward",
        (x.shape, x.strides, x.dtype),
        (weight.shape, weight.strides, weight.dtype),
        None if bias is None else (bias.shape, bias.strides, bias.dtype),
        None if residual is None else (residual.shape, residual.strides, residual.dtype),
        activation,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        autotune.resolve(algorithm),
        resolve(precision),
        warn,
    )
    return call(x, weight, bias, residual)


def conv_backward_data(
    grad_output: np.ndarray,
    weight: np.ndarray,
    input_shape: Sequence[int],
    *,
    bias: np.ndarray | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: Any = "zeros",
    algorithm: str = "auto",
    precision: str | None = None,
    activation: str | None = None,
) -> np.ndarray:
    """Gradient of `conv_forward` with respect to its input; used forward, a transposed convolution.

    Parameters
    ----------
    grad_output : ndarray
        (N, C_out, *output), the gradient with respect to the result.
    weight : ndarray
        (C_out, C_in / groups, *kernel).
    input_shape : sequence of int
        (N, C_in, *spatial): several input sizes may give one output size.
    bias : ndarray, optional
        (C_in,), added to the result (the bias of a transposed convolution).
    stride, padding, dilation, groups, padding_mode, algorithm, precision
        As in `conv_forward`.
    activation : {"relu", "relu6"}, optional
        Applied to the result (the activation behind a transposed convolution).

    Returns
    -------
    ndarray
        Of shape `input_shape`, channels-last memory.

    Raises
    ------
    ShapeError, DTypeError, OptionError
        Before anything is computed.

    Examples
    --------
    >>> conv_backward_data(np.ones((1, 1, 3)), np.array([[[1.0, 2.0, 3.0]]]), (1, 1, 5))
    array([[[1., 3., 6., 5., 3.]]])
    """
    grad_output, weight = check_tensor_like("grad_output", grad_output), check_tensor_like("weight", weight)
    bias = None if bias is None else check_tensor_like("bias", bias)
    call = calls.find(
        "backward_data",
        (grad_output.shape, grad_output.strides, grad_output.dtype),
        (weight.shape, weight.strides, weight.dtype),
        None if bias is None else (bias.shape, bias.strides, bias.dtype),
        activation,
        input_shape,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        autotune.resolve(algorithm),
        resolve(precision),
    )
    return call(grad_output, weight, bias, None)


def conv_backward_weight(
    grad_output: np.ndarray,
    x: np.ndarray,
    weight_shape: Sequence[int],
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: Any = "zeros",
    algorithm: str = "auto",
    precision: str | None = None,
) -> np.ndarray:
    """Gradient of `conv_forward` with respect to its weight.

    Parameters
    ----------
    grad_output : ndarray
        (N, C_out, *output), the gradient with respect to the result.
    x : ndarray
        (N, C_in, *spatial), the input.
    weight_shape : sequence of int
        (C_out, C_in / groups, *kernel).
    stride, padding, dilation, groups, padding_mode, algorithm, precision
        As in `conv_forward`.

    Returns
    -------
    ndarray
        Of shape `weight_shape`, C-contiguous.

    Raises
    ------
    ShapeError, DTypeError, OptionError
        Before anything is computed.

    Examples
    --------
    >>> conv_backward_weight(np.ones((1, 1, 3)), np.arange(5.0).reshape(1, 1, 5), (1, 1, 3))
    array([[[3., 6., 9.]]])
    """
    grad_output, x = check_tensor_like("grad_output", grad_output), check_tensor_like("x", x)
    call = calls.find(
        "backward_weight",
        (grad_output.shape, grad_output.strides, grad_output.dtype),
        (x.shape, x.strides, x.dtype),
        weight_shape,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        autotune.resolve(algorithm),
        resolve(precision),
    )
    return call(grad_output, x)


def conv_backward_bias(grad_output: np.ndarray) -> np.ndarray:
    """Gradient of `conv_forward` with respect to its bias: the sum over batch and positions.

    Parameters
    ----------
    grad_output : ndarray
        (N, C_out, *output).

    Returns
    -------
    ndarray
        (C_out,).

    Examples
    --------
    >>> conv_backward_bias(np.ones((2, 3, 4, 5)))
    array([40., 40., 40.])
    """
    grad_output = check_float("grad_output", grad_output)
    if not 3 <= grad_output.ndim <= 5:
        raise ShapeError(f"grad_output must be (N, C_out, *output) with 3 to 5 axes, got shape {grad_output.shape}")
    return bias_gradient.run(layout.memory_of(grad_output))


def explain(
    input_shape: Sequence[int],
    weight_shape: Sequence[int],
    *,
    direction: str = "forward",
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: Any = "zeros",
    algorithm: str = "auto",
    precision: str | None = None,
    dtype: Any = np.float32,
) -> Choice:
    """Which algorithm a convolution runs on, and why not the others.

    Reasons speak of three axes (D, H, W), of which those along which nothing mixes are one: a kernel of 3x1x1 on
    8x56x56 is one of 1x3x1 on 1x8x3136.

    Parameters
    ----------
    input_shape, weight_shape : sequence of int
        (N, C_in, *spatial) and (C_out, C_in / groups, *kernel).
    direction : {"forward", "backward_data", "backward_weight"}
        Default "forward".
    stride, padding, dilation, groups, padding_mode, algorithm, precision
        As in `conv_forward`.
    dtype : dtype, default float32
        Of the arrays: with fewer elements to a vector, another algorithm may be faster.

    Returns
    -------
    Choice
        With fields ``algorithm``, ``refused`` and ``measured``; printing it gives one line per algorithm.

    Examples
    --------
    >>> print(explain((1, 3, 8, 8), (4, 3, 1, 1)).algorithm)
    pointwise
    """
    check_choice("direction", direction, plan.DIRECTIONS)
    shapes = tuple(input_shape), tuple(weight_shape)
    geometry = conv_geometry(*shapes, stride, padding, dilation, groups, padding_mode, warn=False)
    dtype = np.dtype(dtype)
    check_float_dtype("dtype", dtype)
    return autotune.choose(direction, geometry, autotune.resolve(algorithm), resolve(precision), dtype)
