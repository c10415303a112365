"""Adaptive and global pooling, differentiable, of one, two and three spatial axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Tensor, apply, as_tensor, is_grad_enabled
from ..ops import adaptive_pool as ops
from ..ops.unpool import adaptive_max_pool_indices
from .pool import pool_operand, record_pool, without_batch

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "global_avg_pool",
]


def adaptive_avg_pool1d(input: Any, output_size: Any) -> Tensor:
    """As `adaptive_avg_pool2d`, with one spatial axis.

    Examples
    --------
    >>> adaptive_avg_pool1d([[[0.0, 1.0, 2.0, 3.0, 4.0]]], 3)
    Tensor([[[0.5, 2. , 3.5]]], dtype=float32)
    """
    return _adaptive_avg_pool(1, input, output_size)


def adaptive_avg_pool2d(input: Any, output_size: Any) -> Tensor:
    r"""The averages of windows that cover the input evenly, as many per axis as wanted.

    Window :math:`i` of :math:`O` goes from :math:`\lfloor i I / O \rfloor` to, not including,
    :math:`\lceil (i + 1) I / O \rceil`.

    Parameters
    ----------
    input : Tensor or array_like
        (N, C, H, W) or, unbatched, (C, H, W); float32 or float64.
    output_size : int, None, or a sequence of them
        Outputs per axis; None keeps the input's size.

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
    >>> adaptive_avg_pool2d(np.ones((1, 3, 7, 9)), (2, None)).shape
    (1, 3, 2, 9)
    """
    return _adaptive_avg_pool(2, input, output_size)


def adaptive_avg_pool3d(input: Any, output_size: Any) -> Tensor:
    """As `adaptive_avg_pool2d`, with three spatial axes.

    Examples
    --------
    >>> adaptive_avg_pool3d(np.ones((1, 3, 7, 9, 4)), 2).shape
    (1, 3, 2, 2, 2)
    """
    return _adaptive_avg_pool(3, input, output_size)


def _adaptive_avg_pool(rank: int, input: Any, output_size: Any) -> Tensor:
    x, batched = pool_operand(f"adaptive_avg_pool{rank}d", rank, input)
    shape = batched.shape

    def backward(grad: np.ndarray) -> np.ndarray:
        return ops.adaptive_avg_pool_backward(grad, shape, output_size)

    value = ops.adaptive_avg_pool_forward(batched, output_size)
    return record_pool(f"adaptive_avg_pool{rank}d", x, value, backward)


def adaptive_max_pool1d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """As `adaptive_max_pool2d`, with one spatial axis.

    Examples
    --------
    >>> adaptive_max_pool1d([[[0.0, 1.0, 2.0, 3.0, 4.0]]], 3)
    Tensor([[[1., 3., 4.]]], dtype=float32)
    """
    return _adaptive_max_pool(1, input, output_size, return_indices)


def adaptive_max_pool2d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """The largest elements of windows that cover the input evenly, as many per axis as wanted.

    Parameters
    ----------
    input : Tensor or array_like
        (N, C, H, W) or, unbatched, (C, H, W). Floating-point, or integers, which are not differentiable.
    output_size : int, None, or a sequence of them
        Outputs per axis, over the windows of `adaptive_avg_pool2d`; None keeps the input's size.
    return_indices : bool, default False
        Return also where the largest elements are, as `max_pool2d` does.

    Returns
    -------
    Tensor
        (N, C, OH, OW).
    ndarray of int64, with `return_indices`

    Raises
    ------
    ShapeError, OptionError, DTypeError
        As `max_pool2d`.

    Examples
    --------
    >>> adaptive_max_pool2d(np.ones((1, 3, 7, 9)), (2, None)).shape
    (1, 3, 2, 9)
    """
    return _adaptive_max_pool(2, input, output_size, return_indices)


def adaptive_max_pool3d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """As `adaptive_max_pool2d`, with three spatial axes.

    Examples
    --------
    >>> adaptive_max_pool3d(np.ones((1, 3, 7, 9, 4)), 2).shape
    (1, 3, 2, 2, 2)
    """
    return _adaptive_max_pool(3, input, output_size, return_indices)


def _adaptive_max_pool(rank: int, input: Any, output_size: Any, return_indices: bool) -> Any:
    x, batched = pool_operand(f"adaptive_max_pool{rank}d", rank, input)
    shape = batched.shape
    recorded = x.requires_grad and is_grad_enabled()
    value, offsets = ops.adaptive_max_pool_forward(batched, output_size, with_offsets=recorded or return_indices)

    def backward(grad: np.ndarray) -> np.ndarray:
        return ops.adaptive_max_pool_backward(grad, offsets, shape, output_size)

    out = record_pool(f"adaptive_max_pool{rank}d", x, value, backward)
    if not return_indices:
        return out
    return out, without_batch(x, adaptive_max_pool_indices(offsets, shape, output_size))


def global_avg_pool(input: Any, keepdims: bool = False) -> Tensor:
    """The average over all spatial axes.

    Parameters
    ----------
    input : Tensor or array_like
        (N, C, *spatial) with one to three spatial axes; float32 or float64.
    keepdims : bool, default False
        Keep the spatial axes, with extent 1.

    Returns
    -------
    Tensor
        (N, C), or (N, C, 1, ...) with `keepdims`.

    Raises
    ------
    ShapeError, DTypeError
        The input has a wrong number of axes or a wrong dtype.

    Examples
    --------
    >>> global_avg_pool([[[1.0, 3.0], [5.0, 7.0]]])
    Tensor([[2., 6.]], dtype=float32)
    """
    x = as_tensor(input)
    shape = x.shape

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray]:
        return (ops.global_avg_pool_backward(grad, shape),)

    return apply("global_avg_pool", (x,), ops.global_avg_pool_forward(x.data, keepdims), backward)
