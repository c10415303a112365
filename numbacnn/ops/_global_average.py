"""The average over all positions, which has kernels of its own."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

from ..kernels import global_pool as kernels
from ..kernels._program import Operand, Program
from ._call import Call, make_call
from .layout import channels_last_memory, conversion
from .memory import Room

if TYPE_CHECKING:
    from typing import Any

    import numpy as np

__all__ = ["average_everything"]

# The size of a segment, and of a row at least: a row of a few vectors keeps the loop around it short.
SEGMENT_BYTES = 1 << 18
ROW_BYTES = 256
# What one core adds up in a nanosecond when an earlier operation has left its result in the caches: below a megabyte
# or so, fetching half of it from there to another core takes longer than it saves.
BYTES_PER_NS = 60.0


@functools.lru_cache(maxsize=1024)
def _call(shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype[Any]) -> Call:
    batch, channels, positions, itemsize = shape[0], shape[1], math.prod(shape[2:]), dtype.itemsize
    width = max(ROW_BYTES // (channels * itemsize), 1) * channels
    rows = positions * channels // width
    segments = max(min(positions * channels * itemsize // SEGMENT_BYTES, rows // kernels.ROWS), 1)
    step = -(-rows // segments) if rows else 0
    x, out = Operand(shape, dtype), Operand((*shape[:2], *(1,) * (len(shape) - 2)), dtype)
    # A sample that is one segment of whole rows of channels has its sums in its row of the result.
    partial = out if segments == 1 and width == channels else Operand((batch * segments, width), dtype)
    cost = batch * positions * channels * itemsize / BYTES_PER_NS
    sums = kernels.sum_segments.prepare(
        (dtype,), batch * segments, positions, channels, width, segments, step, cost=cost
    )
    steps = [sums.on(x, partial, out)]
    if segments > 1:
        combine = kernels.combine_segments.prepare(
            (dtype,), batch, positions, channels, width, segments, cost=batch * segments * width * itemsize
        )
        steps.append(combine.on(partial, out))
    program = Program(steps, (x, out))
    room = Room(out.shape, dtype, channels_last_memory(out.shape, itemsize))
    convert = (conversion(shape, strides, itemsize),)
    return make_call(program, room, convert=convert)


def average_everything(x: np.ndarray) -> np.ndarray:
    """The average over all spatial axes, which are kept."""
    return _call(x.shape, x.strides, x.dtype)(x)
