"""The tables of Fourier transforms: passes, factors, and where the opposite of each frequency lies."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from ...kernels._operands import Operand
from ...kernels.fft_passes import PASS_COLUMNS, RADICES
from .._sizes import Triple

# Tables of longer transforms are made anew for every call, which hardly shows there: they would be much to keep.
KEPT_ROWS = 8192

_INT64 = np.dtype(np.int64)


class Tables(NamedTuple):
    """What the kernels read."""

    passes: np.ndarray
    factors: Operand
    mirrors: Operand  # (harmonics, 2), rows of f and -f; they are one where f is its own opposite


def pass_radices(size: int) -> list[int]:
    """Into how many parts each pass splits a transform of some size.

    Examples
    --------
    >>> math.prod(pass_radices(96))
    96
    """
    radices = []
    while size > 1:
        whole = [radix for radix in RADICES if size % radix == 0]
        if whole[0] == 8 and size in (16, 48):
            del whole[0]  # two passes into four parts take less than one into eight and one into two
        radices.append(whole[0])
        size //= radices[-1]
    return radices


def tables(sizes: Triple, dtype: np.dtype[Any]) -> Tables:
    """The passes over blocks of some extents, their factors, and mirrors; what is large is looked up at every call."""
    kept = math.prod(sizes) <= KEPT_ROWS
    return Tables(
        passes(sizes),
        Operand.made(functools.partial(_kept_factors if kept else factors, sizes, dtype), dtype),
        Operand.made(functools.partial(_kept_mirrors if kept else mirrors, sizes), _INT64),
    )


def passes(sizes: Triple) -> np.ndarray:
    """The passes, as the kernels read them."""
    part = inner = math.prod(sizes)
    rows, at = [], 2
    for size in sizes:
        inner //= size
        for radix in pass_radices(size):
            rows.append((radix, part, inner, at))
            size //= radix
            part //= radix
            at += 2 * size * (radix - 1)
    return np.array(rows, np.int64).reshape(-1, PASS_COLUMNS).ravel()


def factors(sizes: Triple, dtype: np.dtype[Any]) -> np.ndarray:
    """One, and the factors of all passes: real and imaginary parts."""
    rows = [np.ones(2, dtype)]
    for size in sizes:
        for radix in pass_radices(size):
            angles = np.arange(size // radix)[:, None] * (np.arange(1, radix) * (-2 * np.pi / size))
            rows.append(np.stack([np.cos(angles), np.sin(angles)], axis=-1).ravel().astype(dtype))
            size //= radix
    return np.concatenate(rows)


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


_kept_factors, _kept_mirrors = functools.lru_cache(maxsize=32)(factors), functools.lru_cache(maxsize=32)(mirrors)


def harmonics(sizes: Triple) -> int:
    """How many pairs `mirrors` has.

    Examples
    --------
    >>> harmonics((1, 3, 8)), len(mirrors((1, 3, 8)))
    (13, 13)
    """
    own_opposites = math.prod(2 - size % 2 for size in sizes)
    return (math.prod(sizes) + own_opposites) // 2
