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
DIRECTIONS = ("forward", "backward_data", "backward_weight")


def rows(cases: list[ConvCase], threads: int, rounds: int = 5) -> tuple[list[list[str]], str]:
    """The rows under `HEAD`, the least gain first, and a line that sums them up."""
    measured = []
    library = ours.connect(threads)
    for case in cases:
        if case.work("forward", 4) < LARGE:
            continue
        arrays = inputs.make(case, "float32")
        for direction in DIRECTIONS:
            (call,) = library.prepare(case, direction, arrays).values()
            measured.append((case.name, direction, *_seconds(call, threads, rounds)))
        library.release()
    measured.sort(key=lambda row: row[2] / row[3])
    table = [
        [name, direction, f"{one * 1e3:.3g}", f"{several * 1e3:.3g}", f"{one / several:.2f}"]
        for name, direction, one, several in measured
    ]
    return table, _summary([one / several for _, _, one, several in measured], threads)


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


def _seconds(call: Callable[[], Any], threads: int, rounds: int) -> tuple[float, float]:
    """The medians of alternating blocks of calls, on one thread and on several."""
    blocks: dict[int, list[float]] = {1: [], threads: []}
    for _ in range(rounds):
        for count, times in blocks.items():
            with nc.threads(count):
                call()
                times.append(_best(call))
    return median(blocks[1]), median(blocks[threads])


def _best(call: Callable[[], Any]) -> float:
    """The fastest of a few calls."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)
