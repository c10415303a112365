"""Convolution layers: one class for all ranks and one for their transposes."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from .. import functional
from ..autograd import Parameter, Tensor
from ..errors import OptionError
from ..ops._check import check_choice, check_integer, check_per_axis
from ..ops.complexity import ReceptiveField
from ..ops.conv.finish import ACTIVATIONS
from ..ops.geometry import conv_transpose_input_shape
from ..ops.padding import resolve_padding, resolve_padding_mode
from . import init
from ._module import Module

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]

_CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_CONV_TRANSPOSE = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


class _ConvBase(Module):
    """Options, parameters and their initial values: what a convolution and its transpose share."""

    rank: ClassVar[int]
    weight: Parameter
    bias: Parameter | None

    def _configure(
        self,
        channels: tuple[int, int],
        kernel_size: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: int,
        padding_mode: Any,
        activation: str | None,
    ) -> None:
        rank = self.rank
        self.in_channels = check_integer("in_channels", channels[0], 1)
        self.out_channels = check_integer("out_channels", channels[1], 1)
        self.kernel_size = check_per_axis("kernel_size", kernel_size, rank, 1)
        self.stride = check_per_axis("stride", stride, rank, 1)
        self.dilation = check_per_axis("dilation", dilation, rank, 1)
        self.groups = check_integer("groups", groups, 1)
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise OptionError(f"{name}={getattr(self, name)} is not divisible by groups={self.groups}")
        low, high = resolve_padding(padding, (1,) * rank, self._span, self.stride)
        sides = low if low == high else tuple(zip(low, high, strict=True))
        self.padding: Any = padding if isinstance(padding, str) else sides
        resolve_padding_mode(padding_mode, rank)
        self.padding_mode = padding_mode if isinstance(padding_mode, str) else tuple(padding_mode)
        self.activation = None if activation is None else check_choice("activation", activation, ACTIVATIONS[1:])

    @property
    def _span(self) -> tuple[int, ...]:
        """Samples that the dilated kernel spans."""
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel_size, strict=True))

    def _create_parameters(self, out_axis: int, in_axis: int, bias: bool, dtype: Any) -> None:
        self.weight = Parameter(np.empty((out_axis, in_axis, *self.kernel_size), dtype))
        self.bias = Parameter(np.empty(self.out_channels, dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values, distributed as PyTorch's."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(init.fans(self.weight)[0])
            init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        """The options that differ from their defaults, as PyTorch shows them."""
        none = (0,) * self.rank
        ones = (1,) * self.rank
        optional = {
            "padding": (self.padding, none),
            "dilation": (self.dilation, ones),
            "output_padding": (getattr(self, "output_padding", none), none),
            "groups": (self.groups, 1),
            "bias": (self.bias is not None, True),
            "padding_mode": (self.padding_mode, "zeros"),
            "activation": (self.activation, None),
        }
        shown = [f"{name}={value}" for name, (value, default) in optional.items() if value != default]
        start = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        return ", ".join([start, *shown])


class _ConvNd(_ConvBase):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: Any = "zeros",
        dtype: Any = np.float32,
        activation: str | None = None,
    ) -> None:
        super().__init__()
        sizes = (in_channels, out_channels), kernel_size, stride, padding, dilation, groups
        self._configure(*sizes, padding_mode, activation)
        self._create_parameters(out_channels, in_channels // groups, bias, dtype)

    def forward(self, input: Any, residual: Any = None) -> Tensor:
        """Convolve (N, C_in, *spatial) or (C_in, *spatial).

        Parameters
        ----------
        input : Tensor or array_like
        residual : Tensor or array_like, optional
            Of the shape of the result: added to it before the activation.
        """
        return _CONV[self.rank](
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            self.padding_mode,
            residual=residual,
            activation=self.activation,
        )

    def flops(self, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> int:
        """Two per multiply-add: every output element is a dot product with a filter."""
        return 2 * math.prod(output_shape[-self.rank - 1 :]) * math.prod(self.weight.shape[1:])

    def receptive_field(self, field: ReceptiveField, input_shape: tuple[int, ...]) -> ReceptiveField:
        """Wider by the kernel's span."""
        return field.through(self.kernel_size, self.stride, self.dilation)


class Conv1d(_ConvNd):
    """As `Conv2d`, with one spatial axis.

    Examples
    --------
    >>> Conv1d(3, 16, kernel_size=5)(np.zeros((8, 3, 100), np.float32)).shape
    (8, 16, 96)
    """

    rank = 1


class Conv2d(_ConvNd):
    """Convolution (cross-correlation) of images, with learned weight and bias; see `numbacnn.functional.conv2d`.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or sequence of int
    stride, dilation : int or sequence of int, default 1
    padding : int, sequence or str, default 0
        One integer, one per axis, one (low, high) pair per axis, or "valid", "same", "same_lower", "same_size",
        "causal".
    groups : int, default 1
        Divides both channel counts; ``groups=in_channels`` is a depthwise convolution.
    bias : bool, default True
    padding_mode : str or sequence of str, default "zeros"
        "zeros", "reflect", "replicate" or "circular".
    dtype : dtype, default float32
    activation : {"relu", "relu6"}, optional
        Applied to the result where it is written: the bits of a layer of its own, and a pass over memory less.

    Attributes
    ----------
    weight : Parameter
        (out_channels, in_channels / groups, *kernel_size), uniform within ``1 / sqrt(fan_in)`` at first.
    bias : Parameter or None
        (out_channels,), likewise.

    Raises
    ------
    OptionError
        An option is illegal.

    Examples
    --------
    >>> layer = Conv2d(3, 16, kernel_size=3, padding=1)
    >>> layer
    Conv2d(3, 16, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    >>> layer(np.zeros((8, 3, 32, 32), np.float32)).shape
    (8, 16, 32, 32)
    """

    rank = 2


class Conv3d(_ConvNd):
    """As `Conv2d`, with three spatial axes.

    Examples
    --------
    >>> Conv3d(3, 16, kernel_size=3)(np.zeros((1, 3, 8, 8, 8), np.float32)).shape
    (1, 16, 6, 6, 6)
    """

    rank = 3


class _ConvTransposeNd(_ConvBase):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        dtype: Any = np.float32,
        activation: str | None = None,
    ) -> None:
        super().__init__()
        if isinstance(padding, str) and padding != "valid":
            raise OptionError(f"a transposed convolution has no padding={padding!r}; give integers")
        sizes = (in_channels, out_channels), kernel_size, stride, padding, dilation, groups
        self._configure(*sizes, "zeros", activation)
        self.output_padding = check_per_axis("output_padding", output_padding, self.rank, 0)
        for extra, s, d in zip(self.output_padding, self.stride, self.dilation, strict=True):
            if extra >= max(s, d):
                raise OptionError(f"output_padding must be below max(stride, dilation) = {max(s, d)}, got {extra}")
        self._create_parameters(in_channels, out_channels // groups, bias, dtype)

    def forward(self, input: Any, output_size: Any = None) -> Tensor:
        """Enlarge (N, C_in, *spatial) or (C_in, *spatial).

        Parameters
        ----------
        input : Tensor or array_like
        output_size : sequence of int, optional
            The spatial sizes wanted; they decide `output_padding`.
        """
        output_padding = self.output_padding
        if output_size is not None:
            output_padding = self._output_padding_for(np.shape(input), output_size)
        return _CONV_TRANSPOSE[self.rank](
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            output_padding,
            self.groups,
            self.dilation,
            activation=self.activation,
        )

    def _output_padding_for(self, input_shape: tuple[int, ...], output_size: Any) -> tuple[int, ...]:
        batched = input_shape if len(input_shape) == self.rank + 2 else (1, *input_shape)
        least, wanted = (
            conv_transpose_input_shape(
                batched, self.weight.shape, self.stride, self.padding, 0, self.dilation, self.groups, size
            )
            for size in (None, tuple(output_size)[-self.rank :])
        )
        return tuple(want - base for want, base in zip(wanted[2:], least[2:], strict=True))

    def flops(self, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> int:
        """Two per multiply-add: every input element is spread by a filter."""
        return 2 * math.prod(input_shape[-self.rank - 1 :]) * math.prod(self.weight.shape[1:])

    def receptive_field(self, field: ReceptiveField, input_shape: tuple[int, ...]) -> ReceptiveField:
        """Wider by the inputs whose filters overlap."""
        return field.through_transposed(self.kernel_size, self.stride, self.dilation)


class ConvTranspose1d(_ConvTransposeNd):
    """As `ConvTranspose2d`, with one spatial axis.

    Examples
    --------
    >>> ConvTranspose1d(16, 8, kernel_size=2, stride=2)(np.zeros((1, 16, 50), np.float32)).shape
    (1, 8, 100)
    """

    rank = 1


class ConvTranspose2d(_ConvTransposeNd):
    """Transposed convolution, which enlarges images; see `numbacnn.functional.conv_transpose2d`.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or sequence of int
    stride, dilation : int or sequence of int, default 1
    padding : int or sequence, default 0
        Removes samples from the borders of the result.
    output_padding : int or sequence of int, default 0
        Extra samples on the high side.
    groups : int, default 1
    bias : bool, default True
    dtype : dtype, default float32
    activation : {"relu", "relu6"}, optional
        As in `Conv2d`.

    Attributes
    ----------
    weight : Parameter
        (in_channels, out_channels / groups, *kernel_size).
    bias : Parameter or None
        (out_channels,).

    Examples
    --------
    >>> layer = ConvTranspose2d(16, 8, kernel_size=2, stride=2)
    >>> layer(np.zeros((1, 16, 14, 14), np.float32)).shape
    (1, 8, 28, 28)
    """

    rank = 2


class ConvTranspose3d(_ConvTransposeNd):
    """As `ConvTranspose2d`, with three spatial axes.

    Examples
    --------
    >>> ConvTranspose3d(16, 8, kernel_size=2, stride=2)(np.zeros((1, 16, 4, 4, 4), np.float32)).shape
    (1, 8, 8, 8, 8)
    """

    rank = 3
