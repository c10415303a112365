"""Dropout with its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import random
from ..autograd import Tensor, apply, as_tensor
from ..errors import OptionError
from ..ops._check import check_float

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
        Where the random numbers come from: `numbacnn.random.generator` unless given.

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
    keep = _draw(x.shape, generator or random.generator()) >= p
    scale = x.dtype.type(1 / (1 - p) if p < 1 else 0)

    def backward(grad: np.ndarray, needs: tuple[bool, ...]) -> tuple[np.ndarray]:
        return (grad * keep * scale,)

    return apply("dropout", (x,), x.data * keep * scale, backward)


def check_probability(p: Any) -> float:
    """`p` if it is a probability, else OptionError."""
    if not isinstance(p, (int, float, np.number)) or not 0 <= p <= 1:
        raise OptionError(f"p must be a probability, from 0 to 1; got {p!r}")
    return p  # type: ignore[return-value]


def _draw(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Uniform numbers in the memory order that activations have (channels-last), so that the product is quick."""
    if len(shape) < 3:
        return generator.random(shape, np.float32)
    return np.moveaxis(generator.random((shape[0], *shape[2:], shape[1]), np.float32), -1, 1)
