"""Dividing arrays into a training and a test part."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import random
from ..errors import OptionError, ShapeError


def train_test_split(
    *arrays: Any, test_size: float = 0.25, seed: int | None = None, stratify: Any = None
) -> list[np.ndarray]:
    """Split arrays at random, along their first axis, into a training and a test part.

    Parameters
    ----------
    *arrays : array_like
        Arrays of equal length; all are split alike.
    test_size : float or int, default 0.25
        Share of the samples that goes to the test part (rounded to the nearest whole number), or, as an integer,
        their number.
    seed : int, optional
        Makes the split repeatable; by default it is drawn from the package's generator.
    stratify : array_like, optional
        One label per sample; both parts then have the same share of every class, to within one sample.

    Returns
    -------
    list of ndarray
        ``[first_train, first_test, second_train, second_test, ...]``, each in random order.

    Raises
    ------
    ShapeError
        If lengths differ.
    OptionError
        If a part would be empty, or a class to stratify has fewer than two samples.

    Examples
    --------
    >>> import numpy as np
    >>> from numbacnn.data import train_test_split
    >>> labels = np.repeat([0, 1], [80, 20])
    >>> train, test = train_test_split(labels, test_size=0.2, seed=0, stratify=labels)
    >>> np.bincount(train), np.bincount(test)
    (array([64, 16]), array([16,  4]))
    """
    converted = [np.asarray(array) for array in arrays]
    labels = None if stratify is None else np.asarray(stratify)
    lengths = [len(array) if array.ndim else None for array in [*converted, *([] if labels is None else [labels])]]
    if not converted or lengths[0] is None or len(set(lengths)) != 1:
        raise ShapeError(f"arrays to split must have equal lengths along their first axis, got {lengths}")
    total = lengths[0]
    count = _test_count(total, test_size)
    generator = random.generator() if seed is None else np.random.default_rng(seed)
    order = generator.permutation(total)
    if labels is None:
        test = np.zeros(total, bool)
        test[:count] = True
    else:
        test = _stratified(labels[order], count)
    return [part for array in converted for part in (array[order[~test]], array[order[test]])]


def _test_count(total: int, test_size: float) -> int:
    count = test_size if isinstance(test_size, (int, np.integer)) else round(total * test_size)
    if not 0 < count < total:
        raise OptionError(f"test_size={test_size} of {total} samples leaves a part empty")
    return int(count)


def _stratified(labels: np.ndarray, count: int) -> np.ndarray:
    """Mask of `count` positions holding every class in proportion; the largest remainders get the leftover samples."""
    classes, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if sizes.min() < 2:
        raise OptionError(f"cannot stratify: class {classes[sizes.argmin()]} has a single sample")
    shares = sizes * (count / len(labels))
    quotas = np.floor(shares).astype(int)
    by_remainder = np.argsort(-(shares - quotas), kind="stable")
    quotas[by_remainder[: count - quotas.sum()]] += 1
    mask = np.zeros(len(labels), bool)
    for label, quota in enumerate(quotas):
        mask[np.flatnonzero(inverse == label)[:quota]] = True
    return mask
