"""Max, average and p-norm pooling, differentiable, of one, two and three spatial axes.

One implementation serves all ranks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..autograd import Tensor, apply, as_tensor, is_grad_enabled
from ..errors import ShapeError
from ..ops import pool as ops
from ..ops.unpool import max_pool_indices

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
]


def max_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """As `max_pool2d`, with one spatial axis.

    Examples
    --------
    >>> max_pool1d([[[1.0, 3.0, 2.0, 0.0]]], 2)
    Tensor([[[3., 2.]]], dtype=float32)
    """
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    r"""The largest element of every window: :math:`y_o = \max_k x_{S o + D k - P}`.

    Parameters
    ----------
    input : Tensor or array_like
        (N, C, H, W) or, unbatched, (C, H, W). Floating-point, or integers, which are not differentiable.
    kernel_size : int or sequence of int
    stride : int or sequence of int, optional
        The kernel size unless given.
    padding : int, str or sequence, default 0
        An integer or a (low, high) pair per axis, at most half of what the kernel spans; or "valid", "same",
        "same_lower", "causal". Padding never wins.
    dilation : int or sequence of int, default 1
    ceil_mode : bool, default False
        Round the output size up: the last window may hang over the high edge if it begins inside the input or the
        low padding.
    return_indices : bool, default False
        Return also where the largest elements are.

    Returns
    -------
    Tensor
        (N, C, OH, OW). The gradient of each output goes to the first of the largest elements of its window in
        row-major order; a NaN counts as largest of all.
    ndarray of int64, with `return_indices`
        Positions within each (H, W) plane, counted in row-major order, as PyTorch gives them.

    Raises
    ------
    ShapeError
        The input has a wrong number of axes, or a window is larger than the padded input or lies wholly in the padding.
    OptionError
        An option is illegal.
    DTypeError
        The input is neither float32, float64 nor integer.

    Examples
    --------
    >>> x = Tensor([[[[1.0, 2.0], [4.0, 3.0]]]], requires_grad=True)
    >>> y = max_pool2d(x, 2)
    >>> y.backward()
    >>> y.item(), x.grad.tolist()
    (4.0, [[[[0.0, 0.0], [1.0, 0.0]]]])
    >>> max_pool2d(x, 2, return_indices=True)[1]
    array([[[[2]]]])
    """
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """As `max_pool2d`, with three spatial axes.

    Examples
    --------
    >>> max_pool3d(np.ones((1, 2, 4, 4, 4)), 2).shape
    (1, 2, 2, 2, 2)
    """
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def _max_pool(
    rank: int,
    input: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    x, batched = pool_operand(f"max_pool{rank}d", rank, input)
    shape = batched.shape
    options = {"stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
    recorded = x.requires_grad and is_grad_enabled()
    value, offsets = ops.max_pool_forward(batched, kernel_size, **options, with_offsets=recorded or return_indices)

    def backward(grad: np.ndarray) -> np.ndarray:
        return ops.max_pool_backward(grad, offsets, shape, kernel_size, **options)

    out = record_pool(f"max_pool{rank}d", x, value, backward)
    if not return_indices:
        return out
    return out, without_batch(x, max_pool_indices(offsets, shape, kernel_size, **options))


def avg_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """As `avg_pool2d`, with one spatial axis.

    Examples
    --------
    >>> avg_pool1d([[[1.0, 3.0, 2.0, 0.0]]], 2)
    Tensor([[[2., 1.]]], dtype=float32)
    """
    return _avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    r"""The average of every window: :math:`y_o = \frac{1}{|K|} \sum_k x_{S o + k - P}`.

    Parameters
    ----------
    input : Tensor or array_like
        (N, C, H, W) or, unbatched, (C, H, W); float32 or float64.
    kernel_size : int or sequence of int
    stride : int or sequence of int, optional
        The kernel size unless given.
    padding : int, str or sequence, default 0
        As in `max_pool2d`; padding counts as zero.
    ceil_mode : bool, default False
        As in `max_pool2d`; what hangs over the edge is not counted.
    count_include_pad : bool, default True
        Divide by the size of the window, padding included; or else by the number of input elements in it.
    divisor_override : int, optional
        Divide by this instead.

    Returns
    -------
    Tensor
        (N, C, OH, OW).

    Raises
    ------
    ShapeError, OptionError
        As `max_pool2d`.
    DTypeError
        The input is neither float32 nor float64.

    Examples
    --------
    >>> x = Tensor([[[[1.0, 2.0], [4.0, 3.0]]]], requires_grad=True)
    >>> y = avg_pool2d(x, 2)
    >>> y.backward()
    >>> y.item(), x.grad.tolist()
    (2.5, [[[[0.25, 0.25], [0.25, 0.25]]]])
    """
    return _avg_pool(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool3d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """As `avg_pool2d`, with three spatial axes.

    Examples
    --------
    >>> avg_pool3d(np.ones((1, 2, 4, 4, 4)), 2).shape
    (1, 2, 2, 2, 2)
    """
    return _avg_pool(3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def _avg_pool(
    rank: int,
    input: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    x, batched = pool_operand(f"avg_pool{rank}d", rank, input)
    shape = batched.shape
    options = {
        "stride": stride,
        "padding": padding,
        "ceil_mode": ceil_mode,
        "count_include_pad": count_include_pad,
        "divisor_override": divisor_override,
    }

    def backward(grad: np.ndarray) -> np.ndarray:
        return ops.avg_pool_backward(grad, shape, kernel_size, **options)

    return record_pool(f"avg_pool{rank}d", x, ops.avg_pool_forward(batched, kernel_size, **options), backward)


def lp_pool1d(input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Tensor:
    """As `lp_pool2d`, with one spatial axis.

    Examples
    --------
    >>> lp_pool1d([[[3.0, 4.0, 0.0, 2.0]]], 2, 2)
    Tensor([[[5., 2.]]], dtype=float32)
    """
    return _lp_pool(1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Tensor:
    r"""The p-norm of every window: :math:`y_o = (\sum_k x_{S o + k}^p)^{1/p}`.

    Parameters
    ----------
    input : Tensor or array_like
        (N, C, H, W) or, unbatched, (C, H, W); float32 or float64.
    norm_type : float
        p, positive and finite. Powers keep their sign, as in PyTorch: 1 gives sum pooling, and an odd p gives NaN
        where the sum of powers is negative.
    kernel_size : int or sequence of int
    stride : int or sequence of int, optional
        The kernel size unless given.
    ceil_mode : bool, default False
        As in `max_pool2d`; a window that hangs over the edge counts as if what it misses were like what it has.

    Returns
    -------
    Tensor
        (N, C, OH, OW).

    Raises
    ------
    ShapeError, OptionError, DTypeError
        As `avg_pool2d`.

    Examples
    --------
    >>> lp_pool2d([[[[3.0, 4.0], [12.0, 0.0]]]], 2, 2).item()
    13.0
    """
    return _lp_pool(2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Tensor:
    """As `lp_pool2d`, with three spatial axes.

    Examples
    --------
    >>> lp_pool3d(np.ones((1, 2, 4, 4, 4)), 1, 2)[0, 0, 0, 0, 0].item()
    8.0
    """
    return _lp_pool(3, input, norm_type, kernel_size, stride, ceil_mode)


def _lp_pool(rank: int, input: Any, norm_type: float, kernel_size: Any, stride: Any, ceil_mode: bool) -> Tensor:
    x, batched = pool_operand(f"lp_pool{rank}d", rank, input)
    options = {"stride": stride, "ceil_mode": ceil_mode}
    value = ops.lp_pool_forward(batched, norm_type, kernel_size, **options)

    def backward(grad: np.ndarray) -> np.ndarray:
        return ops.lp_pool_backward(grad, batched, value, norm_type, kernel_size, **options)

    return record_pool(f"lp_pool{rank}d", x, value, backward)


def pool_operand(name: str, rank: int, input: Any, argument: str = "input") -> tuple[Tensor, np.ndarray]:
    """The input as a tensor; and its values with a batch axis, which an unbatched one lacks."""
    x = as_tensor(input)
    if x.ndim not in (rank + 1, rank + 2):
        axes = ("length", "height, width", "depth, height, width")[rank - 1]
        raise ShapeError(
            f"{name}: {argument} must have shape (batch, channels, {axes}) or (channels, {axes}), got {x.shape}"
        )
    return x, x.data if x.ndim == rank + 2 else x.data[None]


def without_batch(x: Tensor, batched: np.ndarray) -> np.ndarray:
    """Without the batch axis if `x` has none."""
    return batched if x.ndim == batched.ndim else batched[0]


def record_pool(name: str, x: Tensor, value: np.ndarray, backward: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    """The result as a tensor; `value` and `backward` have a batch axis even if `x` has none."""
    has_batch = x.ndim == value.ndim  # and not x itself: the tape shall not keep its values

    def pull(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray]:
        return (backward(grad) if has_batch else backward(grad[None])[0],)

    return apply(name, (x,), without_batch(x, value), pull)
