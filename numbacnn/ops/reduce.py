"""Sums over whole arrays: in parallel, accumulated in float64, the same bits on any number of threads."""

from __future__ import annotations

import numpy as np

from ..kernels import reduce as kernels
from ._check import check_float
from ._dense import dense

__all__ = ["sum_of_squares"]

STEP = 16384
NS_PER_ELEMENT = 0.3


def sum_of_squares(x: np.ndarray) -> float:
    """The sum of the squares of all elements.

    Examples
    --------
    >>> sum_of_squares(np.array([3.0, 4.0]))
    25.0
    """
    x = dense(check_float("x", x))
    partial = np.zeros(-(-x.size // STEP))
    kernels.squares(partial.size, x, partial, x.size, STEP, cost=NS_PER_ELEMENT * x.size)
    return float(partial.sum())
