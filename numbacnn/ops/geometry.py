"""Geometry of convolutions and pools: validated once, cached, and lifted to three spatial axes.

Below this module rank does not exist: a 1-D or 2-D problem has leading axes of extent 1 with kernel 1, stride 1,
dilation 1 and no padding. All errors about sizes and options are raised here, before any memory is touched.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..errors import OptionError, ShapeError
from ._check import check_integer, check_per_axis
from ._pool_geometry import PoolGeometry, pool_geometry
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
from .padding import resolve_padding, resolve_padding_mode, same_padding, source_index

__all__ = [
    "ConvGeometry",
    "PoolGeometry",
    "collapse",
    "conv_geometry",
    "conv_transpose_input_shape",
    "lift",
    "lower",
    "normalize",
    "pool_geometry",
    "same_padding",
    "source_index",
]

normalize = check_per_axis


class ConvGeometry(NamedTuple):
    """Everything about a convolution but its data. Per-axis values are for (D, H, W).

    `padding_mode` is "zeros" on every axis that has no padding, whatever was asked for, so that algorithms need to
    look at it alone.
    """

    rank: int
    batch: int
    in_channels: int
    out_channels: int
    groups: int
    input: Triple
    kernel: Triple
    output: Triple
    stride: Triple
    dilation: Triple
    pad_low: Triple
    pad_high: Triple
    padding_mode: tuple[str, str, str]

    @property
    def in_per_group(self) -> int:
        """Input channels that each output channel sees."""
        return self.in_channels // self.groups

    @property
    def out_per_group(self) -> int:
        """Output channels of each group."""
        return self.out_channels // self.groups

    @property
    def taps(self) -> int:
        """Number of kernel positions."""
        return math.prod(self.kernel)

    @property
    def span(self) -> Triple:
        """Input positions from a kernel's first tap to its last, both counted, along each axis."""
        d, h, w = (d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True))
        return d, h, w

    @property
    def input_shape(self) -> Shape:
        """(N, C_in, *spatial), in the user's rank."""
        return (self.batch, self.in_channels, *lower(self.input, self.rank))

    @property
    def output_shape(self) -> Shape:
        """(N, C_out, *spatial), in the user's rank."""
        return (self.batch, self.out_channels, *lower(self.output, self.rank))

    @property
    def weight_shape(self) -> Shape:
        """(C_out, C_in / groups, *kernel), in the user's rank."""
        return (self.out_channels, self.in_per_group, *lower(self.kernel, self.rank))

    @property
    def flops(self) -> int:
        """Floating-point operations of one whole call: two per multiply-add, padding counted."""
        return 2 * self.batch * self.out_channels * math.prod(self.output) * self.taps * self.in_per_group

    @property
    def elements(self) -> int:
        """Elements of input and output together."""
        inputs, outputs = (math.prod(extents) for extents in (self.input, self.output))
        return self.batch * (self.in_channels * inputs + self.out_channels * outputs)

    def params(self, bias: bool = True) -> int:
        """Number of weights and, with `bias`, one more per output channel."""
        return (self.taps * self.in_per_group + bool(bias)) * self.out_channels


def conv_geometry(
    input_shape: Sequence[int],
    weight_shape: Sequence[int],
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: Any = "zeros",
    *,
    warn: bool = True,
) -> ConvGeometry:
    """Validate a convolution and work out its sizes.

    Each spatial axis has ``(I + P_low + P_high - D * (K - 1) - 1) // S + 1`` outputs. Results are cached, so a second
    call with the same arguments costs about a microsecond.

    Parameters
    ----------
    input_shape : sequence of int
        (N, C_in, *spatial) with one to three spatial axes; N may be 0.
    weight_shape : sequence of int
        (C_out, C_in / groups, *kernel).
    stride, dilation : int or sequence of int, default 1
        At least 1.
    padding : int, str or sequence, default 0
        See `resolve_padding`.
    groups : int, default 1
        Divides both numbers of channels.
    padding_mode : str or sequence of str, default "zeros"
        "zeros", "reflect" (edge excluded), "replicate" or "circular", for all axes or one per axis.
    warn : bool, default True
        Whether to warn. Gradients do not: their sizes are given, and were warned of (or, in a transposed convolution,
        meant) before. Nor does who only asks how a convolution would be computed.

    Raises
    ------
    ShapeError
        The shapes do not fit each other or the options, or the output would be empty.
    OptionError
        An option is illegal by itself.

    Warns
    -----
    PaddingWarning
        Input samples at the high border are never read because the windows stop short of them (padding that is never
        read, as in a 7x7 stride-2 stem on 224x224, is no reason to warn); or padding is "same" and the kernel spans
        an even number of samples, which shifts the output by half a sample.

    Examples
    --------
    >>> geometry = conv_geometry((1, 3, 224, 224), (64, 3, 7, 7), stride=2, padding=3)
    >>> geometry.output_shape
    (1, 64, 112, 112)
    >>> geometry.kernel, geometry.params(bias=False), geometry.flops
    ((1, 7, 7), 9408, 236027904)
    >>> conv_geometry((1, 1, 2), (1, 1, 5))
    Traceback (most recent call last):
        ...
    numbacnn.errors.ShapeError: axis 2 (W): the kernel spans 5 samples (size 5, dilation 1) but the padded input has \
only 2 (2 + padding 0 + 0); it would fit with padding=2
    """
    arguments = (input_shape, weight_shape, stride, padding, dilation, groups, padding_mode, warn)
    try:
        return _conv_geometry(*arguments)
    except TypeError:  # a list or an array among the arguments cannot be a key of the cache
        hashable = tuple(map(as_hashable, arguments))
    return _conv_geometry(*hashable)


# typed: so that True and 1.0 are refused even after 1 was accepted.
@functools.lru_cache(maxsize=4096, typed=True)
def _conv_geometry(
    input_shape: Any,
    weight_shape: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    padding_mode: Any,
    warn: bool,
) -> ConvGeometry:
    input_shape = check_shape("input", input_shape)
    weight_shape = check_shape("weight", weight_shape)
    if len(weight_shape) != len(input_shape):
        raise ShapeError(
            f"weight of shape {weight_shape} must have as many axes as input of shape {input_shape}: "
            "(C_out, C_in / groups, *kernel) for (N, C_in, *spatial)"
        )
    rank = len(input_shape) - 2
    groups = check_integer("groups", groups, 1)
    _check_channels(input_shape, weight_shape, groups)
    stride = check_per_axis("stride", stride, rank, 1)
    dilation = check_per_axis("dilation", dilation, rank, 1)
    modes = resolve_padding_mode(padding_mode, rank)
    size, kernel = input_shape[2:], weight_shape[2:]
    span = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    low, high = resolve_padding(padding, size, span, stride)
    modes = tuple(mode if p + q else "zeros" for mode, p, q in zip(modes, low, high, strict=True))
    for axis, mode in enumerate(modes):
        if mode == "reflect" and size[axis] < 2:
            raise ShapeError(f'{axis_name(axis, rank)}: padding_mode="reflect" needs at least 2 input samples, got 1')
    check_magnitudes(stride, dilation, low, high, span)
    check_fit(size, kernel, dilation, low, high)
    output = tuple((i + p + q - k) // s + 1 for i, p, q, k, s in zip(size, low, high, span, stride, strict=True))
    check_elements("output", (input_shape[0], weight_shape[0], *output))
    if warn:
        warn_unread(size, span, stride, low, high)
        warn_even(padding, span)
    return ConvGeometry(
        rank=rank,
        batch=input_shape[0],
        in_channels=input_shape[1],
        out_channels=weight_shape[0],
        groups=groups,
        input=lift(size, 1),
        kernel=lift(kernel, 1),
        output=lift(output, 1),
        stride=lift(stride, 1),
        dilation=lift(dilation, 1),
        pad_low=lift(low, 0),
        pad_high=lift(high, 0),
        padding_mode=lift(modes, "zeros"),
    )


def collapse(g: ConvGeometry) -> ConvGeometry:
    """The same convolution with as few axes as can be: neighbouring axes along which nothing mixes are one.

    An axis with a single tap, stride 1 and no padding is only a list of places. Two such axes side by side are one
    longer list, in the same memory: a kernel of 3x1x1 on 8x56x56 is one of 3x1 on 8x3136. Algorithms then have longer
    lines, and accept what they know for fewer axes. The leading one is not merged with the batch, which no choice may
    depend on.

    Examples
    --------
    >>> collapse(conv_geometry((1, 144, 8, 56, 56), (64, 144, 3, 1, 1), padding=(1, 0, 0))).input_shape
    (1, 144, 8, 3136)
    """
    axes: list[tuple[int, int]] = []  # the last of those that are one, and how many places; 0 where something mixes
    for axis in range(3):
        if g.kernel[axis] > 1 or g.stride[axis] > 1 or g.pad_low[axis] + g.pad_high[axis] > 0:
            axes.append((axis, 0))
        elif axes and axes[-1][1]:
            axes[-1] = (axis, axes[-1][1] * g.input[axis])
        else:
            axes.append((axis, g.input[axis]))
    axes = [item for item in axes if item[1] != 1] or axes[-1:]

    def of(values: tuple[Any, Any, Any], filler: Any) -> tuple[Any, Any, Any]:
        return lift([values[axis] for axis, _ in axes], filler)

    return g._replace(
        rank=len(axes),
        input=lift([places or g.input[axis] for axis, places in axes], 1),
        kernel=of(g.kernel, 1),
        output=lift([places or g.output[axis] for axis, places in axes], 1),
        stride=of(g.stride, 1),
        dilation=lift([g.dilation[axis] if g.kernel[axis] > 1 else 1 for axis, _ in axes], 1),
        pad_low=of(g.pad_low, 0),
        pad_high=of(g.pad_high, 0),
        padding_mode=of(g.padding_mode, "zeros"),
    )


def part_taps(g: ConvGeometry) -> ConvGeometry:
    """The same convolution, with a stride as long as the kernel along axes that have one output.

    A stride that is never made has any length. As long as the kernel, it shows the data gradient that no two taps meet.

    Examples
    --------
    >>> part_taps(conv_geometry((8, 25, 22, 256), (25, 25, 22, 1))).stride
    (1, 22, 1)
    """
    ones = zip(g.stride, g.kernel, g.output, g.dilation, strict=True)
    steps = [max(s, k) if n == 1 and d == 1 else s for s, k, n, d in ones]
    return g._replace(stride=(steps[0], steps[1], steps[2]))


def _check_channels(input_shape: Shape, weight_shape: Shape, groups: int) -> None:
    in_channels, out_channels = input_shape[1], weight_shape[0]
    for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
        if channels % groups:
            raise ShapeError(f"{name}={channels} is not divisible by groups={groups}")
    if weight_shape[1] * groups != in_channels:
        raise ShapeError(
            f"input of shape {input_shape} has {in_channels} channels, but weight of shape {weight_shape} with "
            f"groups={groups} expects {weight_shape[1] * groups}"
        )


def conv_transpose_input_shape(
    input_shape: Sequence[int],
    weight_shape: Sequence[int],
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    output_size: Any = None,
) -> Shape:
    """The shape that a transposed convolution produces: the input shape of the convolution it is the gradient of.

    Each spatial axis has ``(I - 1) * S - P_low - P_high + D * (K - 1) + output_padding + 1`` outputs. The convolution
    with that input has ``I`` outputs again, or ``I + output_padding // S`` where ``output_padding >= S`` (legal when
    it is below the dilation; the outputs beyond ``I`` then do not exist in the transposed convolution).

    Parameters
    ----------
    input_shape : sequence of int
        (N, C_in, *spatial) of the transposed convolution's own input.
    weight_shape : sequence of int
        (C_in, C_out / groups, *kernel).
    stride, dilation : int or sequence of int, default 1
    padding : int or sequence, default 0
        Per axis an integer or a (low, high) pair; "valid" is 0. The other names describe convolutions only.
    output_padding : int or sequence of int, default 0
        Extra outputs on the high side, below ``max(stride, dilation)``.
    groups : int, default 1
    output_size : sequence of int, optional
        The spatial sizes wanted; it decides `output_padding`, which must then be 0.

    Returns
    -------
    tuple of int
        (N, C_out, *spatial).

    Raises
    ------
    ShapeError
        The shapes do not fit each other, or the output would be empty.
    OptionError
        An option is illegal, or `output_size` cannot be reached.

    Examples
    --------
    >>> conv_transpose_input_shape((8, 16, 14, 14), (16, 32, 3, 3), stride=2, padding=1, output_padding=1)
    (8, 32, 28, 28)
    >>> conv_transpose_input_shape((8, 16, 14), (16, 32, 2), stride=2, output_size=(29,))
    (8, 32, 29)
    """
    input_shape = check_shape("input", input_shape)
    weight_shape = check_shape("weight", weight_shape)
    if len(weight_shape) != len(input_shape) or weight_shape[0] != input_shape[1]:
        raise ShapeError(
            f"weight of shape {weight_shape} does not fit input of shape {input_shape}: a transposed convolution "
            "needs (C_in, C_out / groups, *kernel) for (N, C_in, *spatial)"
        )
    if input_shape[1] % check_integer("groups", groups, 1):
        raise ShapeError(f"in_channels={input_shape[1]} is not divisible by groups={groups}")
    if isinstance(padding, str) and padding != "valid":
        raise OptionError(f"a transposed convolution has no padding={padding!r}; give integers or (low, high) pairs")
    rank = len(input_shape) - 2
    size, kernel = input_shape[2:], weight_shape[2:]
    stride = check_per_axis("stride", stride, rank, 1)
    dilation = check_per_axis("dilation", dilation, rank, 1)
    span = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    low, high = resolve_padding(padding, size, span, stride)
    least = tuple((i - 1) * s - p - q + k for i, s, p, q, k in zip(size, stride, low, high, span, strict=True))
    limit = tuple(map(max, stride, dilation))
    extra = _output_padding(output_padding, output_size, least, limit)
    output = tuple(base + more for base, more in zip(least, extra, strict=True))
    for axis, extent in enumerate(output):
        if extent < 1:
            raise ShapeError(
                f"{axis_name(axis, rank)}: the transposed convolution would have {extent} outputs; padding "
                f"{low[axis]} + {high[axis]} removes more than the {least[axis] + low[axis] + high[axis]} there are"
            )
    check_magnitudes(stride, dilation, low, high, span)
    return check_elements("output", (input_shape[0], weight_shape[1] * groups, *output))


def _output_padding(output_padding: Any, output_size: Any, least: Shape, limit: Shape) -> Shape:
    """The extra outputs per axis, given directly or by the output size wanted."""
    rank = len(least)
    extra = check_per_axis("output_padding", output_padding, rank, 0)
    if output_size is not None:
        if any(extra):
            raise OptionError("give either output_padding or output_size, not both")
        wanted = check_per_axis("output_size", output_size, rank, 1)
        extra = tuple(want - base for want, base in zip(wanted, least, strict=True))
    for axis, (more, bound) in enumerate(zip(extra, limit, strict=True)):
        if not 0 <= more < bound:
            where = axis_name(axis, rank)
            if output_size is not None:
                reach = f"from {least[axis]} to {least[axis] + bound - 1}"
                raise OptionError(f"{where}: output_size must be {reach}, got {least[axis] + more}")
            raise OptionError(f"{where}: output_padding must be below max(stride, dilation) = {bound}, got {more}")
    return extra
