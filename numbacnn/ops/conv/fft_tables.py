"""The tables of Fourier transforms: passes, factors, and where the opposite of each frequency lies."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from ...kernels.fft_passes import PASS_COLUMNS, RADICES
from .._sizes import Triple

# Tables of longer transforms are made anew for every call, which hardly shows there: they would be much to keep.
KEPT_ROWS = 8192


class Tables(NamedTuple):
    """What the kernels read."""

    passes: np.ndarray
    factors: np.ndarray
    mirrors: np.ndarray  # (harmonics, 2), rows of f and -f; they are one where f is its own opposite


def pass_radices(size: int) -> list[int]:
    """Into how many parts each pass splits a transform of some size.

    Examples
    --------
    >>> pass_radices(96)
    [4, 4, 3, 2]
    """
    radices = []
    while size > 1:
        radices.append(next(radix for radix in RADICES if size % radix == 0))
        size //= radices[-1]
    return radices


def tables(sizes: Triple, dtype: np.dtype[Any]) -> Tables:
    """The passes over blocks of some extents, their factors, and mirrors."""
    return _kept(sizes, dtype) if math.prod(sizes) <= KEPT_ROWS else _tables(sizes, dtype)


def _tables(sizes: Triple, dtype: np.dtype[Any]) -> Tables:
    part = inner = math.prod(sizes)
    passes, factors, at = [], [np.ones(2, dtype)], 2
    for size in sizes:
        inner //= size
        for radix in pass_radices(size):
            passes.append((radix, part, inner, at))
            angles = np.arange(size // radix)[:, None] * (np.arange(1, radix) * (-2 * np.pi / size))
            factors.append(np.stack([np.cos(angles), np.sin(angles)], axis=-1).ravel().astype(dtype))
            at += factors[-1].size
            size //= radix
            part //= radix
    table = np.array(passes, np.int64).reshape(-1, PASS_COLUMNS)
    return Tables(table.ravel(), np.concatenate(factors), mirrors(sizes))


_kept = functools.lru_cache(maxsize=32)(_tables)


def places(size: int) -> np.ndarray:
    """Where each frequency of an axis lies after the passes."""
    result, parts = np.zeros(size, np.int64), size
    frequency = np.arange(size)
    for radix in pass_radices(size):
        parts //= radix
        result += frequency % radix * parts
        frequency //= radix
    return result


def mirrors(sizes: Triple) -> np.ndarray:
    """Rows of each frequency and of its opposite, every such pair once."""
    rows = opposite = np.zeros(1, np.int64)
    for size in sizes:
        here = places(size)
        rows = (rows[:, None] * size + here).ravel()
        opposite = (opposite[:, None] * size + here[-np.arange(size)]).ravel()
    pairs = np.stack([rows, opposite], axis=-1)[rows <= opposite]
    return np.ascontiguousarray(pairs[np.argsort(pairs[:, 0])])


def harmonics(sizes: Triple) -> int:
    """How many pairs `mirrors` has.

    Examples
    --------
    >>> harmonics((1, 3, 8)), len(mirrors((1, 3, 8)))
    (13, 13)
    """
    own_opposites = math.prod(2 - size % 2 for size in sizes)
    return (math.prod(sizes) + own_opposites) // 2
