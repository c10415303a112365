"""Measures for classifiers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ShapeError


def accuracy(predicted: Any, target: Any) -> float:
    """Share of the targets that are predicted correctly.

    Parameters
    ----------
    predicted : array_like
        Class numbers, of the shape of `target`; or a score for every class, with one axis more: (N, C, *spatial). The
        class with the highest score counts, the first of equals.
    target : array_like of int, shape (N, *spatial)
        The right class numbers.

    Returns
    -------
    float
        From 0 to 1; NaN if there are no targets.

    Raises
    ------
    ShapeError
        If the shapes do not belong together.

    Examples
    --------
    >>> from numbacnn.metrics import accuracy
    >>> accuracy([0, 2, 1, 1], [0, 1, 1, 1])
    0.75
    >>> accuracy([[0.1, 0.9], [0.8, 0.2]], [1, 1])
    0.5
    """
    predicted, target = np.asarray(predicted), np.asarray(target)
    if predicted.ndim == target.ndim + 1 and predicted.ndim >= 2 and predicted.shape[1] > 0:
        predicted = predicted.argmax(axis=1)
    if predicted.shape != target.shape:
        raise ShapeError(
            f"predicted must have the shape of target, {target.shape}, or an axis of class scores more; "
            f"got {predicted.shape}"
        )
    return float(np.mean(predicted == target)) if target.size else float("nan")
