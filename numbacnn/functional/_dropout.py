"""Dropout with its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import random
from ..autograd import Tensor, apply, as_tensor
from ..ops import dropout as ops
from ..ops._check import check_float
from ..ops._dense import dense, in_memory_of
from ..ops.dropout import check_probability

__all__ = ["dropout"]


def dropout(input: Any, p: float = 0.5, training: bool = True, generator: np.random.Generator | None = None) -> Tensor:
    """Set each element to 0 with probability `p`, and divide the others by ``1 - p`` to keep the mean.

    Parameters
    ----------
    input : Tensor or ndarray
        Any shape, float32 or float64.
    p : float, default 0.5
        From 0 to 1.
    training : bool, default True
        False returns the input unchanged.
    generator : numpy.random.Generator, optional
        Where the random numbers come from: `numbacnn.random.generator` unless given. One number is drawn per call.

    Returns
    -------
    Tensor
        Of the input's shape, dtype and memory order.

    Raises
    ------
    OptionError
        `p` is not a probability.

    References
    ----------
    Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", 2014.

    Examples
    --------
    >>> sorted(set(dropout(np.ones(100), p=0.5).data.tolist()))
    [0.0, 2.0]
    """
    check_probability(p)
    x = as_tensor(input)
    check_float("input", x.data)
    if not training or p == 0:
        return x
    key = int((generator or random.generator()).integers(2**63))
    data = dense(x.data)
    out = ops.dropout(data, p, key)

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray]:
        return (ops.dropout(in_memory_of(out, grad), p, key),)

    return apply("dropout", (x,), out, backward)
