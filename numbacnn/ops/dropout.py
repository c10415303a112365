"""Dropout on arrays."""

from __future__ import annotations

import numpy as np

from ..errors import OptionError
from ..kernels import dropout as kernels
from ._check import check_float
from ._dense import dense, empty_like

__all__ = ["check_probability", "dropout"]

STEP = 16384
NS_PER_ELEMENT = 1.0


def dropout(x: np.ndarray, p: float, key: int) -> np.ndarray:
    """Set elements to 0 with probability `p`, and divide the others by ``1 - p`` to keep the mean.

    Which elements is a function of `key`, `p` and their place in memory, so the same call on the gradient is the
    backward pass, and no mask need be kept.

    Parameters
    ----------
    x : ndarray
        Any shape, float32 or float64.
    p : float
        From 0 to 1.
    key : int
        From 0 to 2**63 - 1.

    Returns
    -------
    ndarray
        Of the shape and memory order of `x`. NaN stays NaN.

    Raises
    ------
    OptionError
        `p` is not a probability.

    Examples
    --------
    >>> sorted(set(dropout(np.ones(100), 0.5, key=1).tolist()))
    [0.0, 2.0]
    """
    check_probability(p)
    x = dense(check_float("x", x))
    out = empty_like(x)
    scale = 1 / (1 - p) if p < 1 else 0.0
    threshold = round(p * 2**32)
    kernels.dropout(-(-x.size // STEP), x, out, x.size, key, threshold, scale, STEP, cost=NS_PER_ELEMENT * x.size)
    return out


def check_probability(p: float) -> float:
    """`p` if it is a probability, else OptionError.

    Examples
    --------
    >>> check_probability(0.5)
    0.5
    """
    if isinstance(p, bool) or not isinstance(p, (int, float, np.number)) or not 0 <= p <= 1:
        raise OptionError(f"p must be a probability, from 0 to 1; got {p!r}")
    return float(p)
