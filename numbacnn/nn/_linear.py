"""The fully connected layer, and the one that makes vectors of images for it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import functional
from ..autograd import Parameter, Tensor
from ..ops._check import check_integer
from ..ops.complexity import ReceptiveField
from . import init
from ._module import Module

__all__ = ["Flatten", "Linear"]


class Linear(Module):
    """``input @ weight.T + bias`` on the last axis.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool, default True
    dtype : dtype, default float32

    Attributes
    ----------
    weight : Parameter
        (out_features, in_features), uniform within ``1 / sqrt(in_features)`` at first.
    bias : Parameter or None
        (out_features,), likewise.

    Examples
    --------
    >>> Linear(64, 10)(np.zeros((8, 64), np.float32)).shape
    (8, 10)
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, dtype: Any = np.float32) -> None:
        super().__init__()
        self.in_features = check_integer("in_features", in_features, 1)
        self.out_features = check_integer("out_features", out_features, 1)
        self.weight = Parameter(np.empty((out_features, in_features), dtype))
        self.bias = Parameter(np.empty(out_features, dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values, distributed as PyTorch's."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features)
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Any) -> Tensor:
        """Transform (..., in_features) into (..., out_features)."""
        return functional.linear(input, self.weight, self.bias)

    def flops(self, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> int:
        """Two per multiply-add."""
        return 2 * math.prod(output_shape[1:]) * self.in_features

    def receptive_field(self, field: ReceptiveField, input_shape: tuple[int, ...]) -> ReceptiveField:
        """Everything: each output sees all features."""
        return field.everything()

    def extra_repr(self) -> str:
        """The options."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Flatten(Module):
    """Axes `start_dim` to `end_dim` merged into one, in row-major order.

    Parameters
    ----------
    start_dim : int, default 1
    end_dim : int, default -1

    Examples
    --------
    >>> Flatten()(np.zeros((8, 16, 4, 4))).shape
    (8, 256)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input: Any) -> Tensor:
        """Merge the axes."""
        return functional.flatten(input, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        """The options."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"
