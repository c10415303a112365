"""Nothing is timed before it is right: results against float64 samples and against each other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .reference import Sample

# Largest error that passes, as a share of the largest expected magnitude. Room for fast algorithms (Winograd) and long
# sums, none for a wrong tap.
TOLERANCE = {"float32": 1e-4, "float64": 1e-11}


class WrongResult(Exception):
    """A library computed something else than what was asked."""


def check_sample(result: Mapping[str, np.ndarray], expected: Sample, dtype: str) -> float:
    """The largest error relative to the largest expected magnitude; `WrongResult` if that is too much."""
    worst = 0.0
    for name, (index, values) in expected.items():
        if name not in result:
            raise WrongResult(f"there is no {name} among the results {sorted(result)}")
        if result[name].dtype != dtype:
            raise WrongResult(f"{name} is {result[name].dtype}, not {dtype}")
        try:
            got = result[name][index]
        except IndexError:
            raise WrongResult(f"{name} has the shape {result[name].shape}, too small for its entries") from None
        worst = max(worst, _error(f"{name} against float64", got, values, TOLERANCE[dtype]))
    return worst


def check_agreement(result: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray], dtype: str) -> float:
    """Every entry of two libraries' results; the same measure, twice the tolerance, since both may err."""
    if result.keys() != other.keys():
        raise WrongResult(f"results {sorted(result)} and {sorted(other)} are not the same arrays")
    return max(_error(f"{name} against the other", result[name], other[name], 2 * TOLERANCE[dtype]) for name in result)


def _error(what: str, got: np.ndarray, expected: np.ndarray, tolerance: float) -> float:
    if got.shape != expected.shape:
        raise WrongResult(f"{what}: shape {got.shape}, expected {expected.shape}")
    if got.size == 0:
        return 0.0
    difference = np.abs(got - expected)
    scale = float(np.abs(expected).max()) or 1.0
    error = float(difference.max()) / scale
    if not error <= tolerance:  # NaN fails too
        where = np.unravel_index(int(np.nanargmax(np.where(np.isnan(difference), np.inf, difference))), got.shape)
        place = tuple(int(i) for i in where)
        raise WrongResult(
            f"{what}: {got[place]!s} instead of {expected[place]!s} at {place}, {error:.1e} of the largest magnitude, "
            f"tolerance {tolerance:.0e}"
        )
    return error
