"""Products of every output position with all taps, added up where the taps read the image.

The products of a position are what a row of the output's gradient times the weights as they lie gives: channel by
channel, and of each channel tap by tap. They are turned around, so that vectors run along the channels, and added to
the rows of the image that the position has read. A block is some channels of a sample, whose positions go through in
order: so the order of summation depends on the geometry alone.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from .layout import copy_transposed
from .pointer import as_integers, cast, offset
from .runs import copy_run
from .simd import lanes, load, load_first, splat, store, store_first
from .sources import ZEROS, Sources, source_at


class Columns(NamedTuple):
    """How the products of a convolution lie, and how their summation is cut."""

    positions: int  # of an image
    channels: int  # of the image
    part: int  # of which so many have products
    pitch: int  # products of an output position
    channel_block: int


@device
def _add(target, source, count):
    """Add `count` elements, whatever lies behind them."""
    n = lanes(target)
    whole = count - count % n
    for i in range(0, whole, n):
        store(target, i, load(target, i) + load(source, i))
    if whole < count:
        zero = splat(target, 0.0)
        total = load_first(target, whole, count - whole, zero) + load_first(source, whole, count - whole, zero)
        store_first(target, whole, total, count - whole)


@device
def _add_position(image, values, channels, first_d, first_h, first_w, g, s):
    """Add the products of an output position, ``values[tap][channel]``, whose tap 0 has read (`d`, `h`, `w`).

    Taps along W that have read one stretch of memory are added at once.
    """
    stretch = s.spread_w == 1 and s.stride_w == channels and s.mode_w == ZEROS
    begin, end = max(0, -first_w), min(s.taps_w, s.size_w - first_w)
    for kd in range(s.taps_d):
        d = source_at(first_d + kd * s.spread_d, s.size_d, s.mode_d)
        for kh in range(s.taps_h):
            h = source_at(first_h + kh * s.spread_h, s.size_h, s.mode_h)
            if d >= 0 and h >= 0:
                row = offset(image, d * s.stride_d + h * s.stride_h)
                if not stretch:
                    for kw in range(s.taps_w):
                        w = source_at(first_w + kw * s.spread_w, s.size_w, s.mode_w)
                        if w >= 0:
                            _add(offset(row, w * s.stride_w), offset(values, kw * channels), channels)
                elif begin < end:
                    count = (end - begin) * channels
                    _add(offset(row, (first_w + begin) * channels), offset(values, begin * channels), count)
            values = offset(values, s.taps_w * channels)


@kernel
def add_columns(block, scratch, products: "T*", bias: "T*", out: "T*", g: "Columns", s: "Sources"):
    """One block: some channels of a sample."""
    blocks = (g.part + g.channel_block - 1) // g.channel_block
    n = block // blocks
    channel = (block - n * blocks) * g.channel_block
    channels = min(g.channel_block, g.part - channel)
    taps = s.taps_d * s.taps_h * s.taps_w
    image = offset(out, n * s.stride_n + channel)
    for position in range(g.positions):
        copy_run(offset(image, position * g.channels), offset(bias, channel), channels)
    row = offset(products, n * s.points_d * s.points_h * s.points_w * g.pitch + channel * taps)
    values = cast(scratch, out)
    for d in range(s.points_d):
        for h in range(s.points_h):
            for w in range(s.points_w):
                copy_transposed(as_integers(row), 0, taps, as_integers(values), 0, channels, channels, taps)
                first = s.first_d + d * s.slope_d, s.first_h + h * s.slope_h, s.first_w + w * s.slope_w
                _add_position(image, values, channels, first[0], first[1], first[2], g, s)
                row = offset(row, g.pitch)
