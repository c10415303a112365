"""How time and memory grow with one extent of a convolution at a time, over three decades."""

from __future__ import annotations

import time
import tracemalloc
from dataclasses import dataclass
from statistics import median

import numpy as np

from numbacnn import ops
from numbacnn.ops import layout, memory

HEAD = ["extent", "value", "algorithm", "operations", "ms", "ps per operation", "extra MiB"]


@dataclass(frozen=True)
class Series:
    """Forward convolutions that differ in one extent."""

    name: str
    values: tuple[int, ...]
    shape: tuple[int, int, int]  # batch, channels in and out, length; 0 where `values` go
    kernel: int

    def sizes(self, value: int) -> tuple[int, int, int, int]:
        """Batch, channels, length, taps with `value` in its place."""
        batch, channels, length = self.shape
        chosen = {"N": (value, channels, length, self.kernel), "C": (batch, value, length, self.kernel)}
        chosen |= {"length": (batch, channels, value, self.kernel), "K": (batch, channels, length, value)}
        return chosen[self.name]


SERIES = (
    Series("N", (1, 10, 100, 1000), (0, 16, 1000), 9),
    Series("C", (2, 20, 200, 2000), (1, 0, 200), 3),
    Series("length", (100, 1000, 10_000, 100_000), (1, 32, 0), 9),
    Series("K", (3, 30, 300, 3000), (1, 8, 20_000), 0),
)


def rows(series: tuple[Series, ...] = SERIES) -> list[list[str]]:
    """The rows under `HEAD`, one per series and value."""
    return [_row(one.name, value, *one.sizes(value)) for one in series for value in one.values]


def _row(name: str, value: int, batch: int, channels: int, length: int, taps: int) -> list[str]:
    rng = np.random.default_rng(0)
    x = layout.empty_channels_last((batch, channels, length), np.dtype(np.float32))
    x[...] = rng.standard_normal(x.shape, dtype=np.float32)
    weight = rng.standard_normal((channels, channels, taps), dtype=np.float32)
    padding = (taps // 2,)

    def run() -> np.ndarray:
        return ops.conv_forward(x, weight, padding=padding)

    y = run()
    algorithm = ops.explain(x.shape, weight.shape, padding=padding).algorithm
    operations = 2.0 * y.size * channels * taps
    del y
    seconds = _median_seconds(run)
    size = f"{_extra_bytes(run) / 2**20:.1f}"
    per_operation = seconds / operations * 1e12
    return [name, f"{value:,}", algorithm, f"{operations:.2g}", f"{seconds * 1e3:.3g}", f"{per_operation:.3g}", size]


def _median_seconds(run) -> float:
    times = []
    begin = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begin < 0.2:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return median(times)


def _extra_bytes(run) -> int:
    """The most that a call holds besides its result: the pool emptied, so that every buffer is new and counted."""
    memory.release_memory()
    tracemalloc.start()
    try:
        result = run()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return max(0, peak - memory.size_class(result.nbytes))
