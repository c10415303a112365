"""How much faster several threads are than one, on the convolutions that are large enough to expect it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import geometric_mean, median
from typing import Any

import numbacnn as nc

from . import inputs, pairs
from .cases import ConvCase
from .libraries import numbacnn as ours
from .peak import peak_gflops

HEAD = ["case", "direction", "ms on one thread", "ms", "faster by"]
LARGE = 50e6  # floating-point operations


def rows(cases: list[ConvCase], threads: int, rounds: int = 7) -> tuple[list[list[str]], str]:
    """The rows under `HEAD`, the least gain first, and a line that sums them up."""
    measured = []
    library = ours.connect(threads)
    for case in cases:
        if case.work("forward", 4) < LARGE:
            continue
        arrays = inputs.make(case, "float32")
        for direction in case.directions:
            (call,) = library.prepare(case, direction, arrays).values()
            blocks = [partial(_on, count, call) for count in (1, threads)]
            measured.append((case.name, direction, *pairs.compare(*blocks, rounds)))
        library.release()
    measured.sort(key=lambda row: row[4])
    table = [
        [name, direction, f"{one * 1e3:.3g}", f"{several * 1e3:.3g}", f"{gain:.2f}"]
        for name, direction, one, several, gain in measured
    ]
    return table, _summary([gain for *_, gain in measured], threads)


def _summary(gains: list[float], threads: int) -> str:
    if not gains:
        return "No convolution is large enough."
    middle, mean = median(gains), geometric_mean(gains)
    return (
        f"{threads} threads are {mean:.2f} times as fast as one on {len(gains)} convolutions of more than "
        f"{LARGE / 1e6:.0f} million operations (geometric mean; median {middle:.2f}, least {min(gains):.2f}). "
        f"Multiply-adds that never leave the registers gain {_ceiling(threads):.2f}."
    )


def _ceiling(threads: int) -> float:
    rates = []
    for count in (1, threads):
        with nc.threads(count):
            rates.append(peak_gflops("float32", 0.5))
    return rates[1] / rates[0]


def _on(threads: int, call: Callable[[], Any]) -> float:
    with nc.threads(threads):
        return pairs.median_of_calls(call)
