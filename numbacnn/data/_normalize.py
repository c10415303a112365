"""Normalisation of inputs with statistics of the training set."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ShapeError


class Normalize:
    """``(x - mean) / std`` for every channel.

    Parameters
    ----------
    mean, std : array_like, shape (C,)
        Statistics of each channel. A channel that never varies (``std == 0``) is only shifted.

    Examples
    --------
    >>> import numpy as np
    >>> from numbacnn.data import Normalize
    >>> x = np.array([[[1.0, 3.0]], [[5.0, 7.0]]], np.float32)
    >>> normalize = Normalize.fit(x)
    >>> normalize.mean, normalize(x)[1]
    (array([4.]), array([[0.4472136, 1.3416407]], dtype=float32))
    >>> bool(np.allclose(normalize.inverse(normalize(x)), x))
    True
    """

    def __init__(self, mean: Any, std: Any) -> None:
        self.mean = np.atleast_1d(np.asarray(mean, np.float64))
        self.std = np.atleast_1d(np.asarray(std, np.float64))
        if self.mean.ndim != 1 or self.mean.shape != self.std.shape:
            raise ShapeError(f"mean and std need one value per channel, got {self.mean.shape} and {self.std.shape}")

    @classmethod
    def fit(cls, x: np.ndarray) -> Normalize:
        """The mean and standard deviation (of the population) of each channel of `x`, shape (N, C, *spatial)."""
        axes = (0, *range(2, x.ndim))
        return cls(x.mean(axis=axes, dtype=np.float64), x.std(axis=axes, dtype=np.float64))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Normalise `x` of shape (N, C, *spatial); float32 and float64 are kept."""
        mean, scale = self._broadcast(x)
        return (x - mean) / scale

    def inverse(self, x: np.ndarray) -> np.ndarray:
        """Undo the normalisation."""
        mean, scale = self._broadcast(x)
        return x * scale + mean

    def _broadcast(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if x.ndim < 2 or x.shape[1] != len(self.mean):
            raise ShapeError(f"expected {len(self.mean)} channels in axis 1, got an array of shape {x.shape}")
        shape = (-1, *(1,) * (x.ndim - 2))
        scale = np.where(self.std > 0, self.std, 1)
        return self.mean.reshape(shape).astype(x.dtype), scale.reshape(shape).astype(x.dtype)
