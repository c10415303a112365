"""The average over all positions, which has kernels of its own."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

from ..kernels import global_pool as kernels
from ..kernels._launch import run
from .layout import channels_last, empty_channels_last
from .memory import empty

if TYPE_CHECKING:
    from typing import Any

    import numpy as np

    from ..kernels._build import Prepared

__all__ = ["average_everything"]

# The size of a segment, and of a row at least: a row of a few vectors keeps the loop around it short.
SEGMENT_BYTES = 1 << 18
ROW_BYTES = 256
# What one core adds up in a nanosecond when an earlier operation has left its result in the caches: below a megabyte
# or so, fetching half of it from there to another core takes longer than it saves.
BYTES_PER_NS = 60.0


class _Launches(NamedTuple):
    partial: tuple[int, int] | None  # the shape of the partial sums; None: each is a row of the result
    segments: Prepared
    combine: Prepared | None


@functools.lru_cache(maxsize=1024)
def _plan(shape: tuple[int, ...], dtype: np.dtype[Any]) -> _Launches:
    batch, channels, positions, itemsize = shape[0], shape[1], math.prod(shape[2:]), dtype.itemsize
    width = max(ROW_BYTES // (channels * itemsize), 1) * channels
    rows = positions * channels // width
    segments = max(min(positions * channels * itemsize // SEGMENT_BYTES, rows // kernels.ROWS), 1)
    step = -(-rows // segments) if rows else 0
    cost = batch * positions * channels * itemsize / BYTES_PER_NS
    sums = kernels.sum_segments.prepare(
        (dtype,), batch * segments, positions, channels, width, segments, step, cost=cost
    )
    combine = None
    if segments > 1:
        combine = kernels.combine_segments.prepare(
            (dtype,), batch, positions, channels, width, segments, cost=batch * segments * width * itemsize
        )
    partial = None if segments == 1 and width == channels else (batch * segments, width)
    return _Launches(partial, sums, combine)


def average_everything(x: np.ndarray) -> np.ndarray:
    """The average over all spatial axes, which are kept."""
    plan = _plan(x.shape, x.dtype)
    out = empty_channels_last((*x.shape[:2], *(1,) * (x.ndim - 2)), x.dtype)
    partial = out if plan.partial is None else empty(plan.partial, x.dtype)
    if plan.combine is None:
        plan.segments(channels_last(x), partial, out)
    else:
        run(plan.segments.job(channels_last(x), partial, out), plan.combine.job(partial, out))
    return out
