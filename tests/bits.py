"""Comparisons of bits: the same on any number of threads and on every driver, or rounded once or twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numbacnn.kernels import _launch


def assert_same_bits(compute: Callable[[], Any]) -> None:
    """`compute` returns an array or a tuple of arrays; it is called once per thread count and driver."""
    with _launch.driver("serial"):
        expected = _arrays(compute())
    for driver in _launch.DRIVERS:
        for threads in (1, 2, 3, 8):
            with _launch.driver(driver), _launch.threads(threads):
                got = _arrays(compute())
            for a, b in zip(expected, got, strict=True):
                assert a.tobytes() == b.tobytes(), f"{driver} driver, {threads} threads"


def _arrays(result: Any) -> list[np.ndarray]:
    return [np.asarray(array) for array in (result if isinstance(result, tuple) else (result,))]


def assert_rounded(actual: np.ndarray, expected: np.ndarray) -> None:
    """Equal up to the rounding of a division."""
    tolerance = 8 * np.finfo(actual.dtype).eps
    atol = tolerance * max(1, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=atol)
