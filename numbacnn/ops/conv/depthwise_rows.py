"""In which order a depthwise convolution passes over the rows of its destination, and what is dealt out to blocks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from . import blocking, strip_tables

if TYPE_CHECKING:
    from ..geometry import ConvGeometry


class Rows(NamedTuple):
    """What the records of the kernels, `conv_depthwise.Direct` and `conv_depthwise_weight.ChannelSums`, begin with."""

    planes: int
    rows: int
    band: int
    bands: int
    phase: int
    segments: int
    units: int


def plan_rows(g: ConvGeometry, transposed: bool, itemsize: int, units: int, points: int) -> Rows:
    """The rows of the output or, if `transposed`, of the input.

    They are cut into segments of at least some points if this makes more of up to so many units. Rows that a dilation
    lets read the same rows of the source follow on each other if L2 does not hold what those between them read.
    """
    lists_d, lists_h = strip_tables.plane_lists(g, transposed)
    source, out = (g.output, g.input) if transposed else (g.input, g.output)
    lines = g.batch * out[0] * out[1]
    segments = max(1, min(out[2] // points, -(-units // max(1, lines))))
    row_bytes = source[2] * g.groups * itemsize
    band, phase = blocking.row_band(lists_d.longest, lists_h.longest, row_bytes, out), 1
    apart = g.dilation[1] if transposed else g.dilation[1] // math.gcd(g.dilation[1], g.stride[1])
    far = min(source[1], reach(g, not transposed, 1)) * row_bytes > blocking.BAND_BYTES
    if segments == 1 and far and band == out[1] and lists_h.longest > 1 and 1 < apart < out[1]:
        phase = -(-out[1] // apart)
        band = phase * apart
    bands = -(-out[1] // band)
    return Rows(out[0], out[1], band, bands, phase, segments, g.batch * bands * out[0] * band * segments)


def reach(g: ConvGeometry, of_input: bool, axis: int) -> int:
    """How far apart positions lie, of the input or of the output, that some position of the other meets."""
    return (g.span[axis] - 1) // (1 if of_input else g.stride[axis])
