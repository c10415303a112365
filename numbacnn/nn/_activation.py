"""Activation layers: the functions of `numbacnn.functional` as modules.

``inplace`` is accepted for PyTorch's sake; the input is never changed.
"""

from __future__ import annotations

from typing import Any

from .. import functional
from ..autograd import Tensor
from ..ops._check import check_choice
from ._module import Module

__all__ = ["GELU", "LeakyReLU", "LogSoftmax", "ReLU", "ReLU6", "SiLU", "Sigmoid", "Softmax", "Tanh"]


class _InPlace(Module):
    """Accepts `inplace` and shows it."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def extra_repr(self) -> str:
        """The options."""
        return "inplace=True" if self.inplace else ""


class ReLU(_InPlace):
    """``max(input, 0)``, element by element; NaN stays NaN.

    Examples
    --------
    >>> import numbacnn as nc
    >>> ReLU()(nc.Tensor([-1.0, 2.0]))
    Tensor([0., 2.], dtype=float32)
    """

    def forward(self, input: Any) -> Tensor:
        """Apply the function."""
        return functional.relu(input)


class ReLU6(_InPlace):
    """``min(max(input, 0), 6)``, element by element; NaN stays NaN.

    Examples
    --------
    >>> import numbacnn as nc
    >>> ReLU6()(nc.Tensor([-1.0, 2.0, 7.0]))
    Tensor([0., 2., 6.], dtype=float32)
    """

    def forward(self, input: Any) -> Tensor:
        """Apply the function."""
        return functional.relu6(input)


class LeakyReLU(Module):
    """``input`` where it is not negative, else ``negative_slope * input``.

    Examples
    --------
    >>> import numbacnn as nc
    >>> LeakyReLU(0.5)(nc.Tensor([-1.0, 2.0]))
    Tensor([-0.5,  2. ], dtype=float32)
    """

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope = negative_slope
        self.inplace = inplace

    def forward(self, input: Any) -> Tensor:
        """Apply the function."""
        return functional.leaky_relu(input, self.negative_slope)

    def extra_repr(self) -> str:
        """The options."""
        return f"negative_slope={self.negative_slope}" + (", inplace=True" if self.inplace else "")


class Sigmoid(Module):
    """The logistic function, ``1 / (1 + exp(-input))``.

    Examples
    --------
    >>> import numbacnn as nc
    >>> Sigmoid()(nc.Tensor([0.0]))
    Tensor([0.5], dtype=float32)
    """

    def forward(self, input: Any) -> Tensor:
        """Apply the function."""
        return functional.sigmoid(input)


class Tanh(Module):
    """The hyperbolic tangent.

    Examples
    --------
    >>> import numbacnn as nc
    >>> Tanh()(nc.Tensor([0.0]))
    Tensor([0.], dtype=float32)
    """

    def forward(self, input: Any) -> Tensor:
        """Apply the function."""
        return functional.tanh(input)


class SiLU(_InPlace):
    """``input * sigmoid(input)``, also called swish.

    Examples
    --------
    >>> import numbacnn as nc
    >>> SiLU()(nc.Tensor([0.0, 40.0]))
    Tensor([ 0., 40.], dtype=float32)
    """

    def forward(self, input: Any) -> Tensor:
        """Apply the function."""
        return functional.silu(input)


class GELU(Module):
    """``input`` times the standard normal distribution function of it.

    Parameters
    ----------
    approximate : {"none", "tanh"}, default "none"
        The exact function, or its approximation by tanh.

    Examples
    --------
    >>> import numbacnn as nc
    >>> GELU()(nc.Tensor([0.0, 40.0]))
    Tensor([ 0., 40.], dtype=float32)
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = check_choice("approximate", approximate, ("none", "tanh"))

    def forward(self, input: Any) -> Tensor:
        """Apply the function."""
        return functional.gelu(input, approximate=self.approximate)

    def extra_repr(self) -> str:
        """The options."""
        return f"approximate={self.approximate!r}"


class Softmax(Module):
    """Exponentials divided by their sum along an axis.

    Parameters
    ----------
    dim : int, default 1
        The axis whose elements sum to 1: that of classes or channels unless given.

    Examples
    --------
    >>> import numbacnn as nc
    >>> Softmax()(nc.Tensor([[0.0, 0.0]]))
    Tensor([[0.5, 0.5]], dtype=float32)
    """

    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Any) -> Tensor:
        """Apply the function."""
        return functional.softmax(input, self.dim)

    def extra_repr(self) -> str:
        """The options."""
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """The logarithm of `Softmax`, computed without taking the logarithm of a small number.

    Parameters
    ----------
    dim : int, default 1
        The axis along which the exponentials sum to 1.

    Examples
    --------
    >>> import numbacnn as nc
    >>> LogSoftmax()(nc.Tensor([[0.0, 1000.0]]))
    Tensor([[-1000.,     0.]], dtype=float32)
    """

    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Any) -> Tensor:
        """Apply the function."""
        return functional.log_softmax(input, self.dim)

    def extra_repr(self) -> str:
        """The options."""
        return f"dim={self.dim}"
