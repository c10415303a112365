"""What an architecture costs and sees, from sizes alone: receptive fields and ratios of parameters.

Parameters and operations of one convolution are `ConvGeometry.params` and `ConvGeometry.flops`.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from ._check import check_integer, check_per_axis, is_sequence

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ReceptiveField", "factored_channels", "receptive_field", "separable_parameter_ratio"]


class ReceptiveField(NamedTuple):
    """How an output element sees the input of a net, per spatial axis.

    The size is what the layers could see in an endless input: near the border, and where it exceeds the input, part of
    it is padding.

    Parameters
    ----------
    size : tuple of (int or None)
        Input samples between the first and the last one that the element depends on, both included; None is all.
    jump : tuple of (int or Fraction)
        Input samples between neighbouring elements: the product of the strides so far.

    Examples
    --------
    >>> field = ReceptiveField((1, 1), (1, 1))
    >>> field.through(3, stride=2).through(3)
    ReceptiveField(size=(7, 7), jump=(2, 2))
    """

    size: tuple[int | None, ...]
    jump: tuple[int | Fraction, ...]

    @classmethod
    def of_input(cls, rank: int) -> ReceptiveField:
        """Of the input itself: one sample."""
        return cls((1,) * rank, (1,) * rank)

    def through(self, kernel_size: Any, stride: Any = 1, dilation: Any = 1) -> ReceptiveField:
        """The receptive field after one more convolution or pool."""
        span, strides = self._window(kernel_size, stride, dilation)
        return self.widened(span, strides)

    def through_transposed(self, kernel_size: Any, stride: Any = 1, dilation: Any = 1) -> ReceptiveField:
        """The receptive field after a transposed convolution, whose outputs see every `stride`-th of the taps."""
        span, strides = self._window(kernel_size, stride, dilation)
        seen = tuple(-(-k // s) for k, s in zip(span, strides, strict=True))
        return self.widened(seen, tuple(Fraction(1, s) for s in strides))

    def widened(self, span: tuple[int, ...], stride: tuple[int | Fraction, ...]) -> ReceptiveField:
        """After windows of `span` elements, `stride` elements apart."""
        axes = zip(self.size, self.jump, span, strict=True)
        return ReceptiveField(
            tuple(None if size is None else size + math.ceil((k - 1) * jump) for size, jump, k in axes),
            tuple(jump * s for jump, s in zip(self.jump, stride, strict=True)),
        )

    def everything(self) -> ReceptiveField:
        """After a layer whose outputs see all of its input."""
        return self._replace(size=(None,) * len(self.size))

    def joined(self, other: ReceptiveField) -> ReceptiveField:
        """Of a sum or concatenation of two branches: the larger.

        Examples
        --------
        >>> start = ReceptiveField.of_input(1)
        >>> start.joined(start.through(3)).size
        (3,)
        """
        sizes = zip(self.size, other.size, strict=True)
        return ReceptiveField(
            tuple(None if a is None or b is None else max(a, b) for a, b in sizes),
            tuple(max(a, b) for a, b in zip(self.jump, other.jump, strict=True)),
        )

    def _window(self, kernel_size: Any, stride: Any, dilation: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Samples that a dilated kernel spans, and its strides."""
        rank = len(self.size)
        kernel = check_per_axis("kernel_size", kernel_size, rank, 1)
        dilations = check_per_axis("dilation", dilation, rank, 1)
        span = tuple(d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True))
        return span, check_per_axis("stride", stride, rank, 1)


def receptive_field(layers: Iterable[tuple[Any, ...]], rank: int = 2) -> ReceptiveField:
    r"""The receptive field of a chain of convolutions and pools.

    .. math:: R \leftarrow R + J D (K - 1), \qquad J \leftarrow J S, \qquad R_0 = J_0 = 1

    Parameters
    ----------
    layers : iterable of (kernel_size, stride, dilation)
        From input to output; stride and dilation may be left out. Each is an integer or one integer per axis.
    rank : int, default 2
        Number of spatial axes.

    Examples
    --------
    Two 3x3 convolutions see as much as one 5x5:

    >>> receptive_field([(3,), (3,)])
    ReceptiveField(size=(5, 5), jump=(1, 1))
    """
    field = ReceptiveField.of_input(rank)
    for layer in layers:
        field = field.through(*layer)
    return field


def separable_parameter_ratio(out_channels: int, kernel_size: Any) -> float:
    r"""Parameters of a depthwise-separable convolution over those of the convolution it replaces.

    .. math:: \frac{1}{C_\mathrm{out}} + \frac{1}{\prod K}

    Parameters
    ----------
    out_channels : int
    kernel_size : int or sequence of int
        An integer is the size along each of two axes.

    Examples
    --------
    >>> round(separable_parameter_ratio(256, 3), 4)
    0.115
    """
    rank = len(kernel_size) if is_sequence(kernel_size) else 2
    taps = math.prod(check_per_axis("kernel_size", kernel_size, rank, 1))
    return 1 / check_integer("out_channels", out_channels, 1) + 1 / taps


def factored_channels(in_channels: int, out_channels: int, temporal: int = 3, spatial: int = 3) -> int:
    r"""Channels between the halves of a (2+1)D convolution, so that it has as many parameters as the 3-D one.

    .. math:: \left\lfloor \frac{t d^2 C_\mathrm{in} C_\mathrm{out}}{d^2 C_\mathrm{in} + t C_\mathrm{out}} \right\rfloor

    (Tran et al., 2018, "A Closer Look at Spatiotemporal Convolutions for Action Recognition".)

    Parameters
    ----------
    in_channels, out_channels : int
    temporal, spatial : int, default 3
        Kernel size t along time and d along each of the two other axes.

    Examples
    --------
    >>> factored_channels(64, 64)
    144
    """
    sizes = {"in_channels": in_channels, "out_channels": out_channels, "temporal": temporal, "spatial": spatial}
    c_in, c_out, t, d = (check_integer(name, value, 1) for name, value in sizes.items())
    return t * d**2 * c_in * c_out // (d**2 * c_in + t * c_out)
