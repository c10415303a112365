"""Max unpooling, differentiable, of one, two and three spatial axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Tensor
from ..ops import unpool as ops
from .pool import pool_operand, record_pool

__all__ = ["max_unpool1d", "max_unpool2d", "max_unpool3d"]


def max_unpool1d(
    input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
) -> Tensor:
    """As `max_unpool2d`, with one spatial axis.

    Examples
    --------
    >>> max_unpool1d([[[3.0, 2.0]]], np.array([[[1, 2]]]), 2)
    Tensor([[[0., 3., 2., 0.]]], dtype=float32)
    """
    return _max_unpool(1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
) -> Tensor:
    """Put elements back to where `max_pool2d` found them; the rest is zero.

    Parameters
    ----------
    input : Tensor or array_like
        (N, C, H, W) or, unbatched, (C, H, W); float32 or float64.
    indices : ndarray or Tensor of integers
        From `max_pool2d`, of the shape of `input`. Of several elements with one index the last stays.
    kernel_size : int or sequence of int
    stride : int or sequence of int, optional
        The kernel size unless given.
    padding : int or sequence of int, default 0
    output_size : sequence of int, optional
        What the max pool's input was like: (H, W), or its whole shape. Unless given, the smallest size that pools to
        the size of `input`.

    Returns
    -------
    Tensor
        (N, C, OH, OW).

    Raises
    ------
    ShapeError
        The shapes do not fit each other, or an index lies outside the output.
    OptionError
        An option is illegal, or the max pool could not have made `input` from `output_size`.
    DTypeError
        `input` is not float32 or float64, or `indices` not integer.

    Examples
    --------
    >>> x = np.array([[[[1.0, 2.0], [4.0, 3.0]]]])
    >>> from numbacnn.functional import max_pool2d
    >>> y, indices = max_pool2d(x, 2, return_indices=True)
    >>> max_unpool2d(y, indices, 2).tolist()
    [[[[0.0, 0.0], [4.0, 0.0]]]]
    """
    return _max_unpool(2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
) -> Tensor:
    """As `max_unpool2d`, with three spatial axes.

    Examples
    --------
    >>> max_unpool3d(np.ones((1, 1, 1, 1, 1)), np.array([[[[[7]]]]]), 2).shape
    (1, 1, 2, 2, 2)
    """
    return _max_unpool(3, input, indices, kernel_size, stride, padding, output_size)


def _max_unpool(
    rank: int, input: Any, indices: Any, kernel_size: Any, stride: Any, padding: Any, output_size: Any
) -> Tensor:
    x, batched = pool_operand(f"max_unpool{rank}d", rank, input)
    _, places = pool_operand(f"max_unpool{rank}d", rank, indices, "indices")
    shape = ops.max_unpool_shape(batched.shape, kernel_size, stride, padding, output_size)

    def backward(grad: np.ndarray) -> np.ndarray:
        return ops.max_unpool_backward(grad, places)

    return record_pool(f"max_unpool{rank}d", x, ops.max_unpool_forward(batched, places, shape[2:]), backward)
