"""Dropout layer."""

from __future__ import annotations

from typing import Any

from .. import functional
from ..autograd import Tensor
from ..functional._dropout import check_probability
from ._module import Module

__all__ = ["Dropout"]


class Dropout(Module):
    """In training mode, set elements to 0 at random and enlarge the others; in evaluation mode, do nothing.

    Parameters
    ----------
    p : float, default 0.5
        The probability of 0.
    inplace : bool, default False
        Accepted for PyTorch's sake; the input is never changed.

    Notes
    -----
    `numbacnn.manual_seed` makes the choice repeatable.

    Examples
    --------
    >>> import numbacnn as nc
    >>> Dropout(0.5).eval()(nc.Tensor([1.0, 2.0]))
    Tensor([1., 2.], dtype=float32)
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        self.p = check_probability(p)
        self.inplace = inplace

    def forward(self, input: Any) -> Tensor:
        """Drop elements, in training mode."""
        return functional.dropout(input, self.p, self.training)

    def extra_repr(self) -> str:
        """The options."""
        return f"p={self.p}, inplace={self.inplace}"
