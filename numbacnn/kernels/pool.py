"""Max and average pooling over channels-last memory, forward and backward, for any rank and any windows.

Every kernel walks over its own results (outputs forward, inputs backward) and gathers what each is made of, so no two
blocks write the same element and every sum has one order. A result stays in a register until it is whole.

A pool is three independent axes. On each, output `o` reads input ``o * S - P + k * D`` for every ``k < K`` that
falls inside; or, where ``S == 0``, the adaptive window from ``floor(o * I / O)`` to ``ceil((o + 1) * I / O)``.

Each kernel exists twice. Lanes of a vector are neighbouring channels; but the kernels ``*_few`` are for fewer channels
than lanes, and there a vector holds results along W instead, wherever all of them have the same taps.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, kernel
from .pointer import offset
from .pool_lanes import (
    beats,
    load_lanes,
    load_offsets,
    reciprocal,
    splat_offset,
    store_lanes,
    store_offsets,
    where_offset,
)
from .simd import lanes, select, splat

OFFSET_DTYPES = ("uint8", "uint16", "int32")

# What an average is divided by, if not by a given (positive) number.
COUNT_PADDING = 0  # the part of the window in the padded input
COUNT_INPUT = -1  # the part in the input


class Pool(NamedTuple):
    """Extents of one launch, under oneDNN's letters, and which part of it a block does."""

    C: int
    ID: int
    IH: int
    IW: int
    OD: int
    OH: int
    OW: int
    KD: int
    KH: int
    KW: int
    SD: int
    SH: int
    SW: int
    PD: int
    PH: int
    PW: int
    DD: int
    DH: int
    DW: int
    LD: int  # ends of the padded input
    LH: int
    LW: int
    divisor: int
    offsets: int  # max: whether window offsets are wanted
    results: int  # positions of all results
    RD: int  # extents of the results
    RH: int
    RW: int
    run_begin: int  # results along W that can share a vector: first, one past the last, and how far apart
    run_end: int
    phases: int
    step: int  # results per block
    channel_blocks: int
    channel_step: int


@device
def window(o, I, O, K, S, P, D):
    """Where output `o` reads on one axis: first coordinate, number of taps, number of the first tap."""
    if S == 0:
        begin = o * I // O
        return begin, ((o + 1) * I + O - 1) // O - begin, 0
    begin = o * S - P
    if begin >= 0 and begin + (K - 1) * D < I:
        return begin, K, 0
    skip = (D - 1 - begin) // D if begin < 0 else 0
    return begin + skip * D, min(K, (I - begin + D - 1) // D) - skip, skip


@device
def readers(i, I, O, K, S, P, D):
    """The outputs that may read input `i` on one axis: first, and one past the last."""
    if S == 0:
        return i * O // I, ((i + 1) * O + I - 1) // I
    low = i + P - (K - 1) * D
    return ((low + S - 1) // S if low > 0 else 0), min(O, (i + P) // S + 1)


@device
def tap_number(i, o, I, O, S, P, D):
    """Which tap of output `o` reads input `i` on one axis; -1 if it falls between two (dilated) taps."""
    if S == 0:
        return i - o * I // O
    distance = i + P - o * S
    if D == 1:
        return distance
    tap = distance // D
    return tap if tap * D == distance else -1


@device
def windows(d, h, w, g):
    """The windows of an output on the three axes."""
    return (
        window(d, g.ID, g.OD, g.KD, g.SD, g.PD, g.DD),
        window(h, g.IH, g.OH, g.KH, g.SH, g.PH, g.DH),
        window(w, g.IW, g.OW, g.KW, g.SW, g.PW, g.DW),
    )


@device
def all_readers(d, h, w, g):
    """The readers of an input on the three axes, and the input itself."""
    return (
        readers(d, g.ID, g.OD, g.KD, g.SD, g.PD, g.DD),
        readers(h, g.IH, g.OH, g.KH, g.SH, g.PH, g.DH),
        readers(w, g.IW, g.OW, g.KW, g.SW, g.PW, g.DW),
        (d, h, w),
    )


@device
def locate(position, end, g):
    """Where a position of the results is: n, d, h, w; and where in its row the block ends."""
    row = position // g.RW
    plane = row // g.RH
    n = plane // g.RD
    w = position - row * g.RW
    return n, plane - n * g.RD, row - plane * g.RH, w, min(g.RW, w + end - position)


@device
def walk(block, g, find, compute, arrays):
    """Do ``compute(arrays, n, find(d, h, w), c, ...)`` for every result of a block, a whole vector of channels at a time.

    The last vector ends with the last channel, overlapping the one before: what they share is written twice.
    """
    part = block // g.channel_blocks
    slice_ = block - part * g.channel_blocks
    channel = slice_ * g.channel_step
    channel_end = g.C if slice_ == g.channel_blocks - 1 else channel + g.channel_step
    lane_count = lanes(arrays[0])
    position, end = part * g.step, min((part + 1) * g.step, g.results)
    while position < end:
        n, d, h, w, row_end = locate(position, end, g)
        for w in range(w, row_end):
            found = find(d, h, w, g)
            for c in range(channel, channel_end, lane_count):
                c = min(c, channel_end - lane_count)
                compute(arrays, n, found, c, None, position * g.C + c, None, g)
            position += 1


@device
def walk_few(block, g, find, compute, arrays):
    """As `walk`, for fewer channels than lanes.

    Results `phases` apart (forward: neighbours; backward: as far apart as windows are) have the same taps of sources
    side by side. A run of ``phases * lanes`` results is one vector per phase and channel; outside the runs there is
    one position per vector. The last run of a row overlaps the one before.
    """
    lane_count = lanes(arrays[0])
    width = g.phases * lane_count
    position, end = block * g.step, min((block + 1) * g.step, g.results)
    while position < end:
        n, d, h, w, row_end = locate(position, end, g)
        run_begin, run_end = max(w, g.run_begin), min(row_end, g.run_end)
        row = position - w
        while w < row_end:
            run = run_begin <= w < run_end and run_end - run_begin >= width
            if run:
                w = min(w, run_end - width)
                source, result = (g.SW // g.phases * g.C, lane_count), (g.phases * g.C, lane_count)
            else:
                source = result = (1, g.C)
            for phase in range(g.phases if run else 1):
                found = find(d, h, w + phase, g)
                at = (row + w + phase) * g.C
                for c in range(g.C if run else 1):
                    compute(arrays, n, found, c, source, at + c, result, g)
            w += width if run else 1
        position = row + row_end


@device
def max_of_window(arrays, n, found, c, source, at, result, g):
    """The largest element of a window."""
    x, out, offsets, lowest = arrays
    d, h, w = found
    sample = offset(x, n * g.ID * g.IH * g.IW * g.C + c)
    best = splat(x, lowest)
    where = splat_offset(best, (d[2] * g.KH + h[2]) * g.KW + w[2])
    for i in range(d[1]):
        for j in range(h[1]):
            line = ((d[0] + i * g.DD) * g.IH + h[0] + j * g.DH) * g.IW + w[0]
            tap = ((d[2] + i) * g.KH + h[2] + j) * g.KW + w[2]
            for k in range(w[1]):
                value = load_lanes(sample, (line + k * g.DW) * g.C, source)
                wins = beats(value, best)
                best = select(wins, value, best)
                where = select(wins, splat_offset(best, tap + k), where)
    store_lanes(out, at, result, best)
    if g.offsets:
        store_offsets(offsets, at, result, where)


@device
def max_gradient(arrays, n, found, c, source, at, result, g):
    """What an input element gets from the windows it won."""
    grad, offsets, out = arrays
    d, h, w, i = found
    sample = n * g.OD * g.OH * g.OW * g.C + c
    zero = splat(grad, 0)
    total = zero
    for od in range(d[0], d[1]):
        kd = tap_number(i[0], od, g.ID, g.OD, g.SD, g.PD, g.DD)
        for oh in range(h[0], h[1]):
            kh = tap_number(i[1], oh, g.IH, g.OH, g.SH, g.PH, g.DH)
            line = (od * g.OH + oh) * g.OW
            for ow in range(w[0], w[1]):
                kw = tap_number(i[2], ow, g.IW, g.OW, g.SW, g.PW, g.DW)
                if kd >= 0 and kh >= 0 and kw >= 0:
                    place = sample + (line + ow) * g.C
                    won = where_offset(load_offsets(offsets, place, source, zero), (kd * g.KH + kh) * g.KW + kw)
                    total += select(won, load_lanes(grad, place, source), zero)
    store_lanes(out, at, result, total)


@device
def divisor_part(o, I, O, K, S, P, L, g):
    """One axis' factor of the number that the sum of output `o`'s window is divided by."""
    if g.divisor == COUNT_PADDING and S != 0:
        begin = o * S - P
        return min(begin + K, L) - begin
    return window(o, I, O, K, S, P, 1)[1]


@device
def divisor_of(d, h, w, g):
    """The number that the sum of an output's window is divided by."""
    if g.divisor > 0:
        return g.divisor
    return (
        divisor_part(d, g.ID, g.OD, g.KD, g.SD, g.PD, g.LD, g)
        * divisor_part(h, g.IH, g.OH, g.KH, g.SH, g.PH, g.LH, g)
        * divisor_part(w, g.IW, g.OW, g.KW, g.SW, g.PW, g.LW, g)
    )


@device
def windows_and_divisor(d, h, w, g):
    """The windows of an output on the three axes, and what their sum is divided by."""
    return windows(d, h, w, g), divisor_of(d, h, w, g)


@device
def average_of_window(arrays, n, found, c, source, at, result, g):
    """The average of a window, summed line by line, which keeps the sum of a large one accurate."""
    x, out = arrays
    (d, h, w), divisor = found
    sample = offset(x, n * g.ID * g.IH * g.IW * g.C + c)
    total = splat(x, 0)
    for i in range(d[0], d[0] + d[1]):
        for j in range(h[0], h[0] + h[1]):
            place = ((i * g.IH + j) * g.IW + w[0]) * g.C
            line = splat(x, 0)
            for k in range(w[1]):
                line += load_lanes(sample, place + k * g.C, source)
            total += line
    store_lanes(out, at, result, total / splat(x, divisor))


@device
def average_gradient(arrays, n, found, c, source, at, result, g):
    """What an input element gets from the windows it is in."""
    grad, out = arrays
    d, h, w, _ = found
    sample = n * g.OD * g.OH * g.OW * g.C + c
    total = splat(grad, 0)
    for od in range(d[0], d[1]):
        for oh in range(h[0], h[1]):
            line = (od * g.OH + oh) * g.OW
            for ow in range(w[0], w[1]):
                value = load_lanes(grad, sample + (line + ow) * g.C, source)
                total += value * reciprocal(divisor_of(od, oh, ow, g), value)
    store_lanes(out, at, result, total)


@kernel(I=OFFSET_DTYPES)
def max_pool(block, x: "T*", out: "T*", offsets: "I*", lowest: "T", g: "Pool"):
    """The largest elements, and the offset in its window of each: the first NaN, else the first largest element."""
    walk(block, g, windows, max_of_window, (x, out, offsets, lowest))


@kernel(I=OFFSET_DTYPES)
def max_pool_few(block, x: "T*", out: "T*", offsets: "I*", lowest: "T", g: "Pool"):
    walk_few(block, g, windows, max_of_window, (x, out, offsets, lowest))


@kernel(I=OFFSET_DTYPES)
def max_pool_backward(block, grad: "T*", offsets: "I*", out: "T*", g: "Pool"):
    """The gradient with respect to the input of `max_pool`."""
    walk(block, g, all_readers, max_gradient, (grad, offsets, out))


@kernel(I=OFFSET_DTYPES)
def max_pool_backward_few(block, grad: "T*", offsets: "I*", out: "T*", g: "Pool"):
    walk_few(block, g, all_readers, max_gradient, (grad, offsets, out))


@kernel
def average_pool(block, x: "T*", out: "T*", g: "Pool"):
    """The averages. Windows are not dilated."""
    walk(block, g, windows_and_divisor, average_of_window, (x, out))


@kernel
def average_pool_few(block, x: "T*", out: "T*", g: "Pool"):
    walk_few(block, g, windows_and_divisor, average_of_window, (x, out))


@kernel
def average_pool_backward(block, grad: "T*", out: "T*", g: "Pool"):
    """The gradient with respect to the input of `average_pool`."""
    walk(block, g, all_readers, average_gradient, (grad, out))


@kernel
def average_pool_backward_few(block, grad: "T*", out: "T*", g: "Pool"):
    walk_few(block, g, all_readers, average_gradient, (grad, out))


@kernel
def unpool(
    block, x: "T*", indices: "int64*", out: "T*", positions: "int64", plane: "int64", C: "int64",
    channel_blocks: "int64", channel_step: "int64",
):  # fmt: skip
    """One block: some channels of one sample of `out`, zero but for ``out[indices[p]] = x[p]``; the last of equals stays."""
    n = block // channel_blocks
    channel = (block - n * channel_blocks) * channel_step
    channel_end = min(channel + channel_step, C)
    x_n, indices_n, out_n = offset(x, n * positions * C), offset(indices, n * positions * C), offset(out, n * plane * C)
    for p in range(plane):
        for c in range(channel, channel_end):
            out_n[p * C + c] = 0
    for p in range(positions):
        for c in range(channel, channel_end):
            out_n[indices_n[p * C + c] * C + c] = x_n[p * C + c]


@kernel
def unpool_backward(
    block, grad: "T*", indices: "int64*", out: "T*", positions: "int64", plane: "int64", C: "int64", step: "int64",
    results: "int64",
):  # fmt: skip
    """One block of positions of ``out[p] = grad[indices[p]]``."""
    for row in range(block * step, min((block + 1) * step, results)):
        grad_n = offset(grad, row // positions * plane * C)
        for i in range(row * C, (row + 1) * C):
            out[i] = grad_n[indices[i] * C + i - row * C]
