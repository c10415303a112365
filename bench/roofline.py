"""How close convolutions come to what the machine allows: arithmetic intensity, the attainable rate, what limits them.

The roofline model: a computation of so many operations per byte of its operands and result can run at no more than the
multiply-adders' peak, nor at more than its intensity times the memory's bandwidth (Williams et al., 2009). Algorithms
that need fewer operations than are counted, as Winograd's do, may exceed both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from numbacnn.ops import explain

from . import cases
from .cases import ConvCase
from .measure import OURS

CALL_SECONDS = 20e-6  # what a call costs before any arithmetic
GOOD = 0.7  # of the attainable rate

# What keeps an algorithm from the attainable rate where neither memory nor the call does.
REASONS = {
    "depthwise": "a load per multiply-add, and the start of a tile every few multiply-adds",
    "periods": "loads that cross cache lines, and tiles at the ends of lines, whose vectors are masked",
    "strips": "copying rows into strips, and the start of a tile every few multiply-adds",
    "grouped": "copying rows into strips, and stores after few multiply-adds",
    "winograd": "transforming between a few multiply-adds",
    "indirect": "short reductions: setting up a tile and its table of rows",
    "row_runs": "copying rows into patches",
    "lane_sums": "tiles at the edges of the image, whose columns are masked",
    "fft": "transforms, which pass over their data several times",
    "pointwise": "copying weights into panels",
}


@dataclass(frozen=True)
class Point:
    """One measured convolution under the roof."""

    case: str
    direction: str
    dtype: str
    algorithm: str
    seconds: float
    gflops: float
    intensity: float  # operations per byte
    attainable: float  # GFLOP/s
    limit: str

    @property
    def share(self) -> float:
        return self.gflops / self.attainable


def points(report: dict[str, Any], gigabytes: float) -> list[Point]:
    """The convolutions of a report of `compare.py` under the roof of its own peak and some GB/s."""
    known = {(group, case.name): case for group in {e["group"] for e in report["entries"]} for case in _cases(group)}
    found = []
    for entry in report["entries"]:
        case, timing = known.get((entry["group"], entry["case"])), entry["libraries"].get(OURS, {})
        if isinstance(case, ConvCase) and "seconds" in timing:
            peak = max(report["peak"][entry["dtype"]])
            found.append(_point(case, entry, timing["seconds"], peak, gigabytes))
    return found


def _cases(group: str) -> list[cases.Case]:
    return cases.load(group) if group in cases.groups() else []


def _point(case: ConvCase, entry: dict[str, Any], seconds: float, peak: float, gigabytes: float) -> Point:
    itemsize = np.dtype(entry["dtype"]).itemsize
    operations = case.work(entry["direction"], itemsize)
    moved = itemsize * sum(math.prod(shape) for shape in (case.input_shape, case.weight_shape, case.output_shape))
    intensity = operations / moved
    attainable = min(peak, intensity * gigabytes)
    choice = explain(
        case.input_shape,
        case.weight_shape,
        direction=entry["direction"],
        stride=case.stride,
        padding=case.padding,
        dilation=case.dilation,
        groups=case.groups,
        dtype=entry["dtype"],
    )
    gflops = operations / seconds / 1e9
    limit = ""
    if gflops < GOOD * attainable:
        if operations / attainable / 1e9 < CALL_SECONDS:
            limit = "the call itself"
        elif attainable < peak:
            limit = "memory's latency: data come from beyond the caches in pieces"
        else:
            limit = REASONS.get(choice.algorithm, "")
    return Point(
        entry["case"],
        entry["direction"],
        entry["dtype"],
        choice.algorithm,
        seconds,
        gflops,
        intensity,
        attainable,
        limit,
    )


def plot(path: Path, some: list[Point], peaks: dict[str, float], gigabytes: float) -> None:
    """Draw rates over intensities, and the roof of each dtype."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(peaks), figsize=(7 * len(peaks), 5), squeeze=False)
    for axis, dtype in zip(axes[0], peaks, strict=True):
        for direction, marker in (("forward", "o"), ("backward_data", "^"), ("backward_weight", "s")):
            chosen = [point for point in some if (point.dtype, point.direction) == (dtype, direction)]
            axis.plot(
                [p.intensity for p in chosen],
                [p.gflops for p in chosen],
                marker,
                alpha=0.7,
                label=direction,
                markersize=5,
            )
        low, high = 0.5, 1000.0
        ridge = peaks[dtype] / gigabytes
        axis.plot([low, ridge, high], [low * gigabytes, peaks[dtype], peaks[dtype]], "k-", linewidth=1)
        axis.set(xscale="log", yscale="log", title=dtype, xlabel="operations per byte", ylabel="GFLOP/s")
        axis.legend()
        axis.grid(True, which="both", alpha=0.2)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
