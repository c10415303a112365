"""Geometry of pools: validated once, cached, and lifted to three spatial axes (see `geometry`)."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..errors import OptionError
from ._check import check_per_axis
from ._sizes import (
    Shape,
    Triple,
    as_hashable,
    axis_name,
    check_elements,
    check_fit,
    check_magnitudes,
    check_shape,
    lift,
    lower,
    warn_even,
    warn_unread,
)
from .padding import resolve_padding


class PoolGeometry(NamedTuple):
    """Everything about a pool but its data. Per-axis values are for (D, H, W).

    With ``ceil_mode`` the last window may reach beyond ``input + pad_high``.
    """

    rank: int
    batch: int
    channels: int
    input: Triple
    kernel: Triple
    output: Triple
    stride: Triple
    dilation: Triple
    pad_low: Triple
    pad_high: Triple
    ceil_mode: bool

    @property
    def taps(self) -> int:
        """Number of window positions."""
        return math.prod(self.kernel)

    @property
    def input_shape(self) -> Shape:
        """(N, C, *spatial), in the user's rank."""
        return (self.batch, self.channels, *lower(self.input, self.rank))

    @property
    def output_shape(self) -> Shape:
        """(N, C, *spatial), in the user's rank."""
        return (self.batch, self.channels, *lower(self.output, self.rank))


def pool_geometry(
    input_shape: Sequence[int],
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> PoolGeometry:
    """Validate a pool and work out its sizes. Results are cached.

    Parameters
    ----------
    input_shape : sequence of int
        (N, C, *spatial) with one to three spatial axes; N may be 0.
    kernel_size : int or sequence of int
    stride : int or sequence of int, optional
        The kernel size unless given.
    padding : int, str or sequence, default 0
        See `resolve_padding`. Numbers may be at most half of what the dilated kernel spans, so that no window lies
        wholly in the padding.
    dilation : int or sequence of int, default 1
    ceil_mode : bool, default False
        Round the output size up, so that the last window may hang over the high edge; it must begin inside the input
        or the low padding.

    Raises
    ------
    ShapeError
        The shape is illegal, or the output would be empty.
    OptionError
        An option is illegal by itself.

    Warns
    -----
    PaddingWarning
        As in `conv_geometry`; ``ceil_mode=True`` reads every sample.

    Examples
    --------
    >>> pool_geometry((1, 64, 112, 112), 3, stride=2, padding=1).output_shape
    (1, 64, 56, 56)
    >>> pool_geometry((1, 8, 7), 2, ceil_mode=True).output_shape
    (1, 8, 4)
    """
    arguments = (input_shape, kernel_size, stride, padding, dilation, ceil_mode)
    try:
        return _pool_geometry(*arguments)
    except TypeError:
        hashable = tuple(map(as_hashable, arguments))
    return _pool_geometry(*hashable)


@functools.lru_cache(maxsize=4096, typed=True)
def _pool_geometry(
    input_shape: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any
) -> PoolGeometry:
    input_shape = check_shape("input", input_shape)
    rank, size = len(input_shape) - 2, input_shape[2:]
    kernel = check_per_axis("kernel_size", kernel_size, rank, 1)
    stride = kernel if stride is None else check_per_axis("stride", stride, rank, 1)
    dilation = check_per_axis("dilation", dilation, rank, 1)
    span = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    low, high = resolve_padding(padding, size, span, stride)
    check_magnitudes(stride, dilation, low, high, span)
    for axis in range(rank):
        if not isinstance(padding, str) and max(low[axis], high[axis]) > span[axis] // 2:
            raise OptionError(
                f"{axis_name(axis, rank)}: padding of a pool must be at most half of the {span[axis]} samples its "
                f"window spans, got {max(low[axis], high[axis])}"
            )
    slack = tuple(s - 1 if ceil_mode else 0 for s in stride)
    check_fit(size, kernel, dilation, low, tuple(map(sum, zip(high, slack, strict=True))))
    output = []
    for i, p, q, k, s, more in zip(size, low, high, span, stride, slack, strict=True):
        count = (i + p + q - k + more) // s + 1
        if ceil_mode and (count - 1) * s >= i + p:
            count -= 1
        output.append(count)
    check_elements("output", (*input_shape[:2], *output))
    if not ceil_mode:
        warn_unread(size, span, stride, low, high)
    warn_even(padding, span)
    return PoolGeometry(
        rank=rank,
        batch=input_shape[0],
        channels=input_shape[1],
        input=lift(size, 1),
        kernel=lift(kernel, 1),
        output=lift(output, 1),
        stride=lift(stride, 1),
        dilation=lift(dilation, 1),
        pad_low=lift(low, 0),
        pad_high=lift(high, 0),
        ceil_mode=bool(ceil_mode),
    )
