"""How much faster several threads are than one, on the convolutions that are large enough to expect it."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import geometric_mean, median
from typing import Any

import numbacnn as nc

from . import inputs
from .cases import ConvCase
from .libraries import numbacnn as ours
from .peak import peak_gflops

HEAD = ["case", "direction", "ms on one thread", "ms", "faster by"]
LARGE = 50e6  # floating-point operations
FEWEST_CALLS, BLOCK_SECONDS = 3, 0.01


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
            measured.append((case.name, direction, *_seconds(call, threads, rounds)))
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


def _seconds(call: Callable[[], Any], threads: int, rounds: int) -> tuple[float, float, float]:
    """Medians of alternating blocks of calls on one thread and on several, and of what each pair of blocks gains.

    Neighbouring blocks meet the same machine: its other guests come and go more slowly.
    """
    pairs = [[_median_of_calls(call, count) for count in (1, threads)] for _ in range(rounds)]
    one, several = (median(times) for times in zip(*pairs, strict=True))
    return one, several, median(alone / together for alone, together in pairs)


def _median_of_calls(call: Callable[[], Any], threads: int) -> float:
    """What a call takes, by a few of them after one that does not count."""
    times = []
    with nc.threads(threads):
        call()
        while len(times) < FEWEST_CALLS or sum(times) < BLOCK_SECONDS:
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    return median(times)
