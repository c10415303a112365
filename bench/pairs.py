"""Two calls beside each other, in blocks that alternate."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

FEWEST_CALLS, BLOCK_SECONDS = 3, 0.01


def compare(first: Callable[[], float], second: Callable[[], float], rounds: int) -> tuple[float, float, float]:
    """Medians of the seconds that two blocks return in alternation, and of how many times as long the first takes.

    Neighbouring blocks meet the same machine: its other guests come and go more slowly.
    """
    pairs = [(first(), second()) for _ in range(rounds)]
    ones, others = zip(*pairs, strict=True)
    return median(ones), median(others), median(one / other for one, other in pairs)


def median_of_calls(call: Callable[[], Any]) -> float:
    """Seconds that a call takes, by a few of them after one that does not count."""
    call()
    times: list[float] = []
    while len(times) < FEWEST_CALLS or sum(times) < BLOCK_SECONDS:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return median(times)
