"""Convolution and transposed convolution, differentiable, of one, two and three spatial axes.

One implementation serves all ranks. A transposed convolution is the data gradient of a convolution, used forward; so
its own data gradient is that convolution, and its weight gradient is the convolution's with the roles of input and
output exchanged.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Tensor, apply, as_tensor
from ..errors import ShapeError
from ..ops.activation import relu6_backward, relu_backward
from ..ops.conv import conv_backward_bias, conv_backward_data, conv_backward_weight, conv_forward
from ..ops.geometry import conv_geometry, conv_transpose_input_shape

__all__ = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]

Gradients = tuple["np.ndarray | None", ...]


def conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: Any = "zeros",
    precision: str | None = None,
    residual: Any = None,
    activation: str | None = None,
) -> Tensor:
    """As `conv2d`, with one spatial axis.

    Examples
    --------
    >>> conv1d([[[1.0, 2.0, 3.0, 4.0]]], [[[1.0, 1.0]]])
    Tensor([[[3., 5., 7.]]], dtype=float32)
    """
    options = (stride, padding, dilation, groups, padding_mode, precision)
    return _conv(1, input, weight, bias, residual, activation, options)


def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: Any = "zeros",
    precision: str | None = None,
    residual: Any = None,
    activation: str | None = None,
) -> Tensor:
    r"""Convolve (cross-correlate) a batch of images.

    .. math:: y_o = f\left(b + \sum_k x_{S o + D k - P} \, w_k + r_o\right)

    Parameters
    ----------
    input : Tensor or array_like
        (N, C_in, H, W) or, unbatched, (C_in, H, W).
    weight : Tensor or array_like
        (C_out, C_in / groups, KH, KW), of the dtype of `input`.
    bias : Tensor or array_like, optional
        (C_out,).
    stride, dilation : int or sequence of int, default 1
    padding : int, sequence or str, default 0
        One integer, one per axis, one (low, high) pair per axis, or "valid", "same", "same_lower", "same_size",
        "causal"; see `numbacnn.ops.conv_forward`.
    groups : int, default 1
        Divides both channel counts.
    padding_mode : str or sequence of str, default "zeros"
        "zeros", "reflect", "replicate" or "circular".
    precision : {"fast", "exact"}, optional
        Also of the gradients; see `numbacnn.precision`. Default: what the surrounding ``with precision(...)`` says.
    residual : Tensor or array_like, optional
        :math:`r`, of the shape of the result: added to it, as at the end of a residual block.
    activation : {"relu", "relu6"}, optional
        :math:`f`, applied last. Values and gradients have the bits of separate calls, and take passes over memory less.

    Returns
    -------
    Tensor
        (N, C_out, OH, OW) with ``OH = (H + P_low + P_high - D * (KH - 1) - 1) // S + 1``.

    Raises
    ------
    ShapeError, DTypeError, OptionError
        Before anything is computed.

    Examples
    --------
    >>> x = np.ones((1, 3, 8, 8), np.float32)
    >>> conv2d(x, np.ones((16, 3, 3, 3), np.float32), stride=2, padding=1).shape
    (1, 16, 4, 4)
    >>> conv2d([[[[1.0, 2.0]]]], [[[[-1.0]]]], residual=[[[[0.0, 5.0]]]], activation="relu")
    Tensor([[[[0., 3.]]]], dtype=float32)
    """
    options = (stride, padding, dilation, groups, padding_mode, precision)
    return _conv(2, input, weight, bias, residual, activation, options)


def conv3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: Any = "zeros",
    precision: str | None = None,
    residual: Any = None,
    activation: str | None = None,
) -> Tensor:
    """As `conv2d`, with three spatial axes.

    Examples
    --------
    >>> x = np.ones((1, 1, 4, 4, 4), np.float32)
    >>> conv3d(x, np.ones((2, 1, 3, 3, 3), np.float32)).shape
    (1, 2, 2, 2, 2)
    """
    options = (stride, padding, dilation, groups, padding_mode, precision)
    return _conv(3, input, weight, bias, residual, activation, options)


def conv_transpose1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    precision: str | None = None,
    activation: str | None = None,
) -> Tensor:
    """As `conv_transpose2d`, with one spatial axis.

    Examples
    --------
    >>> conv_transpose1d([[[1.0, 2.0]]], [[[1.0, 10.0]]], stride=2)
    Tensor([[[ 1., 10.,  2., 20.]]], dtype=float32)
    """
    options = (stride, padding, output_padding, groups, dilation, precision)
    return _conv_transpose(1, input, weight, bias, activation, options)


def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    precision: str | None = None,
    activation: str | None = None,
) -> Tensor:
    """Transposed convolution: the gradient of `conv2d` with respect to its input, used to enlarge images.

    Parameters
    ----------
    input : Tensor or array_like
        (N, C_in, H, W) or, unbatched, (C_in, H, W).
    weight : Tensor or array_like
        (C_in, C_out / groups, KH, KW), of the dtype of `input`.
    bias : Tensor or array_like, optional
        (C_out,).
    stride, dilation : int or sequence of int, default 1
    padding : int or sequence, default 0
        Of the convolution whose gradient this is: it removes samples from the result's borders.
    output_padding : int or sequence of int, default 0
        Extra samples on the high side, below ``max(stride, dilation)``.
    groups : int, default 1
    precision, activation
        As in `conv2d`.

    Returns
    -------
    Tensor
        (N, C_out, OH, OW) with ``OH = (H - 1) * S - P_low - P_high + D * (KH - 1) + output_padding + 1``.

    Raises
    ------
    ShapeError, DTypeError, OptionError
        Before anything is computed.

    Examples
    --------
    >>> x = np.ones((1, 16, 7, 7), np.float32)
    >>> weight = np.ones((16, 8, 3, 3), np.float32)
    >>> conv_transpose2d(x, weight, stride=2, padding=1, output_padding=1).shape
    (1, 8, 14, 14)
    """
    options = (stride, padding, output_padding, groups, dilation, precision)
    return _conv_transpose(2, input, weight, bias, activation, options)


def conv_transpose3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    precision: str | None = None,
    activation: str | None = None,
) -> Tensor:
    """As `conv_transpose2d`, with three spatial axes.

    Examples
    --------
    >>> x = np.ones((1, 4, 2, 2, 2), np.float32)
    >>> conv_transpose3d(x, np.ones((4, 2, 2, 2, 2), np.float32), stride=2).shape
    (1, 2, 4, 4, 4)
    """
    options = (stride, padding, output_padding, groups, dilation, precision)
    return _conv_transpose(3, input, weight, bias, activation, options)


def _conv(
    rank: int, input: Any, weight: Any, bias: Any, residual: Any, activation: str | None, options: tuple[Any, ...]
) -> Tensor:
    x, w, operands = _operands(f"conv{rank}d", rank, input, weight, bias)
    named: dict[str, Any] = dict(zip(_OPTIONS, options, strict=True))
    added = None if residual is None else as_tensor(residual)
    value = conv_forward(
        *[operand.data for operand in operands],
        **named,
        residual=None if added is None else added.data,
        activation=activation,
    )
    slope = None if activation is None else _SLOPES[activation]

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> Gradients:
        if slope is not None:
            grad = slope(grad, value)
        grad_x = conv_backward_data(grad, w.data, x.shape, **named) if needs[0] else None
        grad_w = conv_backward_weight(grad, x.data, w.shape, **named) if needs[1] else None
        grads = (grad_x, grad_w, *_grad_bias(grad, rank, needs[: len(operands)]))
        return grads if added is None else (*grads, grad)

    inputs = operands if added is None else (*operands, added)
    return apply(f"conv{rank}d", inputs, value, backward)


_OPTIONS = ("stride", "padding", "dilation", "groups", "padding_mode", "precision")
# By activation: its gradient, from that of its result and the result.
_SLOPES = {"relu": relu_backward, "relu6": relu6_backward}


def _conv_transpose(
    rank: int, input: Any, weight: Any, bias: Any, activation: str | None, arguments: tuple[Any, ...]
) -> Tensor:
    stride, padding, output_padding, groups, dilation, precision = arguments
    x, w, operands = _operands(f"conv_transpose{rank}d", rank, input, weight, bias)
    batch = () if x.ndim == rank + 2 else (1,)
    output_shape = conv_transpose_input_shape(
        (*batch, *x.shape), w.shape, stride, padding, output_padding, dilation, groups
    )
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    # The convolution whose gradient this is has more outputs than x where output_padding reaches a whole stride;
    # those that x lacks are zeros.
    size = conv_geometry(output_shape, w.shape, **options, warn=False).output_shape[2:]
    options["precision"] = precision
    inside: Any = (..., *(slice(extent) for extent in x.shape[-rank:]))
    source = x.data
    if size != x.shape[-rank:]:
        source = np.zeros((*x.shape[:-rank], *size), x.dtype)
        source[inside] = x.data
    added = operands[2].data if len(operands) > 2 else None
    value = conv_backward_data(source, w.data, output_shape[len(batch) :], bias=added, activation=activation, **options)
    slope = None if activation is None else _SLOPES[activation]

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> Gradients:
        if slope is not None:
            grad = slope(grad, value)
        grad_x = conv_forward(grad, w.data, **options, warn=False)[inside] if needs[0] else None
        grad_w = conv_backward_weight(source, grad, w.shape, **options) if needs[1] else None
        return (grad_x, grad_w, *_grad_bias(grad, rank, needs))

    return apply(f"conv_transpose{rank}d", operands, value, backward)


def _operands(name: str, rank: int, input: Any, weight: Any, bias: Any) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Input and weight, and all operands including the bias if there is one."""
    x, w = as_tensor(input), as_tensor(weight)
    axes = ("length", "height, width", "depth, height, width")[rank - 1]
    if x.ndim not in (rank + 1, rank + 2):
        raise ShapeError(
            f"{name}: input must have shape (batch, channels, {axes}) or (channels, {axes}), got {x.shape}"
        )
    if w.ndim != rank + 2:
        raise ShapeError(f"{name}: weight must have {rank + 2} axes, the last {rank} being the kernel; got {w.shape}")
    return x, w, (x, w) if bias is None else (x, w, as_tensor(bias))


def _grad_bias(grad: np.ndarray, rank: int, needs: tuple[bool, ...]) -> Gradients:
    """The bias gradient where there is a bias."""
    if len(needs) < 3:
        return ()
    return (conv_backward_bias(grad if grad.ndim == rank + 2 else grad[None]) if needs[2] else None,)
