"""What a dilation costs: convolutions beside others that differ in it alone."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from statistics import geometric_mean

from . import inputs, pairs
from .cases import ConvCase
from .libraries import numbacnn as ours

HEAD = ["case", "direction", "dilated ms", "dense ms", "slower by"]
SAME = 1.2  # times as long is still the same speed


def dense(case: ConvCase) -> ConvCase:
    """The case without its dilation, padded so that the result keeps its size, or loses a position along an axis."""
    axes = zip(case.kernel, case.padding, case.dilation, strict=True)
    padding = tuple(max(0, (2 * p - (d - 1) * (k - 1)) // 2) for k, p, d in axes)
    return replace(case, dilation=(1,) * len(padding), padding=padding)


def rows(cases: list[ConvCase], threads: int, rounds: int = 7) -> tuple[list[list[str]], str]:
    """The rows under `HEAD`, the slowest first, and a line that sums them up.

    What is compared is the time per operation.
    """
    library, measured = ours.connect(threads), []
    for case in cases:
        twins = {twin: inputs.make(twin, "float32") for twin in (case, dense(case))}
        more, fewer = (twin.work("forward", 4) for twin in twins)
        for direction in case.directions:
            blocks = []
            for twin, arrays in twins.items():
                (call,) = library.prepare(twin, direction, arrays).values()
                blocks.append(partial(pairs.median_of_calls, call))
            dilated, plain, ratio = pairs.compare(*blocks, rounds)
            measured.append((case.name, direction, dilated, plain, ratio * fewer / more))
        library.release()
    measured.sort(key=lambda row: row[4], reverse=True)
    table = [
        [name, direction, f"{dilated * 1e3:.3g}", f"{plain * 1e3:.3g}", f"{ratio:.2f}"]
        for name, direction, dilated, plain, ratio in measured
    ]
    return table, _summary([ratio for *_, ratio in measured])


def _summary(ratios: list[float]) -> str:
    return (
        f"Per operation, {sum(ratio <= SAME for ratio in ratios)} of {len(ratios)} dilated convolutions take at most "
        f"{SAME} times as long as without their dilation (geometric mean {geometric_mean(ratios):.2f})."
    )
