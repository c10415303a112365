"""The walk of every pooling kernel over its results, and the tables of taps that each result is made of.

A pool is three independent axes. On each, output `o` reads input ``o * S - P + k * D`` for every ``k < K`` that
falls inside; or, where ``S == 0``, the adaptive window from ``floor(o * IN / OUT)`` to ``ceil((o + 1) * IN / OUT)``.
Seen from the inputs, the outputs that read one of them (its *readers*) are evenly spaced on each axis too.

Either way a result has a short list of sources, which is put into a table once and read for all channels; neighbours
mostly have the same table.
"""

from __future__ import annotations

from typing import NamedTuple

from ._build import device, inlined
from .pointer import cast, offset, stack_slots
from .simd import lanes

# What an average is divided by, if not by a given (positive) number.
COUNT_PADDING = 0  # the part of the window in the padded input
COUNT_INPUT = -1  # the part in the input

# A table of taps: place and number of each, then, where they are wanted, as many weights. Larger windows are done in
# parts, which takes no longer: a part is read from the first-level cache for all channels.
TABLE_TAPS = 256
WEIGHTS = 2 * TABLE_TAPS
tap_slots = stack_slots(3 * TABLE_TAPS)


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
def window(o, IN, OUT, K, S, P, D):
    """Where output `o` reads on one axis: first coordinate, number of taps, number of the first tap."""
    if S == 0:
        begin = o * IN // OUT
        return begin, ((o + 1) * IN + OUT - 1) // OUT - begin, 0
    begin = o * S - P
    if begin >= 0 and begin + (K - 1) * D < IN:
        return begin, K, 0
    skip = (D - 1 - begin) // D if begin < 0 else 0
    return begin + skip * D, min(K, (IN - begin + D - 1) // D) - skip, skip


@device
def readers(i, IN, OUT, K, S, P):
    """The outputs that read input `i` on one axis: the first, and how many. Windows are not dilated."""
    if S == 0:
        first = i * OUT // IN
        return first, ((i + 1) * OUT + IN - 1) // IN - first
    low = i + P - (K - 1)
    first = (low + S - 1) // S if low > 0 else 0
    return first, max(min(OUT, (i + P) // S + 1) - first, 0)


@inlined
def divisor_part(o, IN, OUT, K, S, P, L, g):
    """One axis' factor of the number that the sum of output `o`'s window is divided by."""
    if g.divisor > 0:
        return 1
    if g.divisor == COUNT_PADDING and S != 0:
        begin = o * S - P
        return min(begin + K, L) - begin
    return window(o, IN, OUT, K, S, P, 1)[1]


@inlined
def forward_row(n, d, h, g):
    """What the outputs of a row have in common: the windows on two axes, where they begin, the divisor so far."""
    window_d = window(d, g.ID, g.OD, g.KD, g.SD, g.PD, g.DD)
    window_h = window(h, g.IH, g.OH, g.KH, g.SH, g.PH, g.DH)
    divisor = divisor_part(d, g.ID, g.OD, g.KD, g.SD, g.PD, g.LD, g)
    divisor *= divisor_part(h, g.IH, g.OH, g.KH, g.SH, g.PH, g.LH, g)
    return window_d, window_h, ((n * g.ID + window_d[0]) * g.IH + window_h[0]) * g.IW, divisor


@inlined
def forward_place(row, w, g):
    """Of an output: where its window begins, the number of taps, what its table depends on, its divisor; its window."""
    d, h, begin, divisor = row
    first, taps, skip = w * g.SW - g.PW, g.KW, 0
    if first < 0 or first + (taps - 1) * g.DW >= g.IW:  # seldom; sparing the call shows
        first, taps, skip = window(w, g.IW, g.OW, g.KW, g.SW, g.PW, g.DW)
    if g.divisor > 0:
        divisor = g.divisor
    else:
        divisor *= divisor_part(w, g.IW, g.OW, g.KW, g.SW, g.PW, g.LW, g)
    return (begin + first) * g.C, d[1] * h[1] * taps, skip * (g.KW + 1) + taps, divisor, (taps, skip)


@inlined
def forward_table(table, arrays, start, count, row, w, found, g):
    """Which elements the taps of a window read, counted from its first, and the number of each tap."""
    d, h = row[0], row[1]
    taps, skip = found
    i, j, k = unravel(start, h[1], taps)
    for t in range(count):
        table[2 * t] = ((i * g.DD * g.IH + j * g.DH) * g.IW + k * g.DW) * g.C
        table[2 * t + 1] = ((d[2] + i) * g.KH + h[2] + j) * g.KW + skip + k
        i, j, k = advance(i, j, k, h[1], taps)


@inlined
def backward_row(n, d, h, g):
    """What the inputs of a row have in common: the readers on two axes, where they begin; and the inputs themselves."""
    readers_d = readers(d, g.ID, g.OD, g.KD, g.SD, g.PD)
    readers_h = readers(h, g.IH, g.OH, g.KH, g.SH, g.PH)
    return readers_d, readers_h, ((n * g.OD + readers_d[0]) * g.OH + readers_h[0]) * g.OW, d, h


@inlined
def backward_place(row, w, g):
    """Of an input: where its readers begin, how many they are, what its table depends on, nothing; its readers."""
    d, h, begin = row[0], row[1], row[2]
    first, count = readers(w, g.IW, g.OW, g.KW, g.SW, g.PW)
    key = -1
    if first * g.SW >= g.PW and (first + count - 1) * g.SW - g.PW + g.KW <= g.IW:  # whole windows: one divisor
        key = count
    return (begin + first) * g.C, d[1] * h[1] * count, key, 0, (first, count)


@inlined
def weight_table(table, arrays, start, count, row, w, found, g):
    """Where the readers of an input are, counted from the first, and the part of each that it gets."""
    d, h = row[0], row[1]
    weights = cast(offset(table, WEIGHTS), arrays[0])
    i, j, k = unravel(start, h[1], found[1])
    for t in range(count):
        table[2 * t] = ((i * g.OH + j) * g.OW + k) * g.C
        divisor = g.divisor
        if divisor <= 0:
            divisor = divisor_part(d[0] + i, g.ID, g.OD, g.KD, g.SD, g.PD, g.LD, g)
            divisor *= divisor_part(h[0] + j, g.IH, g.OH, g.KH, g.SH, g.PH, g.LH, g)
            divisor *= divisor_part(found[0] + k, g.IW, g.OW, g.KW, g.SW, g.PW, g.LW, g)
        weights[t] = 1.0 / divisor
        i, j, k = advance(i, j, k, h[1], found[1])


@inlined
def winner_place(row, w, g):
    """As `backward_place`; the table depends on how many readers there are, and on the first one's tap."""
    d, h, begin = row[0], row[1], row[2]
    first, count = readers(w, g.IW, g.OW, g.KW, g.SW, g.PW)
    return (begin + first) * g.C, d[1] * h[1] * count, count * g.KW + w + g.PW - first * g.SW, 0, (first, count)


@inlined
def winner_table(table, arrays, start, count, row, w, found, g):
    """Where the readers of an input are, counted from the first, and the number of the tap by which each reads it."""
    d, h = row[0], row[1]
    tap_d, tap_h = row[3] + g.PD - d[0] * g.SD, row[4] + g.PH - h[0] * g.SH
    tap_w = w + g.PW - found[0] * g.SW
    i, j, k = unravel(start, h[1], found[1])
    for t in range(count):
        table[2 * t] = ((i * g.OH + j) * g.OW + k) * g.C
        table[2 * t + 1] = ((tap_d - i * g.SD) * g.KH + tap_h - j * g.SH) * g.KW + tap_w - k * g.SW
        i, j, k = advance(i, j, k, h[1], found[1])


@device
def unravel(t, J, K):
    """The indices of tap `t` on the three axes, the last two of which have `J` and `K` taps."""
    if t == 0:
        return 0, 0, 0
    line = t // K
    return line // J, line % J, t - line * K


@device
def advance(i, j, k, J, K):
    """The indices of the next tap."""
    k += 1
    if k == K:
        k = 0
        j += 1
        if j == J:
            j = 0
            i += 1
    return i, j, k


@device
def locate(position, end, g):
    """Where a position of the results is: n, d, h, w; and where in its row the block ends."""
    row = position // g.RW
    plane = row // g.RH
    n = plane // g.RD
    w = position - row * g.RW
    return n, plane - n * g.RD, row - plane * g.RH, w, min(g.RW, w + end - position)


@inlined
def walk(block, g, find_row, find_place, fill, compute, arrays):
    """Do `compute` for every result of a block, two vectors of channels at a time.

    Results of a row are done `phases` apart, since those mostly have the same table.
    The last vector ends with the last channel; the lanes it shares with the one before are computed twice.
    """
    part = block // g.channel_blocks
    slice_ = block - part * g.channel_blocks
    channel = slice_ * g.channel_step
    channel_end = g.C if slice_ == g.channel_blocks - 1 else channel + g.channel_step
    lane_count = lanes(arrays[0])
    last = channel_end - lane_count
    table = tap_slots()
    position, end = part * g.step, min((part + 1) * g.step, g.results)
    while position < end:
        n, d, h, row_first, row_end = locate(position, end, g)
        row = find_row(n, d, h, g)
        row_begin = position - row_first
        filled = -1
        for phase in range(row_first, min(row_first + g.phases, row_end)):
            for w in range(phase, row_end, g.phases):
                base, taps, key, divisor, found = find_place(row, w, g)
                start = 0
                while start == 0 or start < taps:
                    count = min(taps - start, TABLE_TAPS)
                    if key != filled or key < 0 or taps > TABLE_TAPS:
                        fill(table, arrays, start, count, row, w, found, g)
                        filled = key
                    for c in range(channel, channel_end, 2 * lane_count):
                        first, second = min(c, last), min(c + lane_count, last)
                        gap, at = second - first, (row_begin + w) * g.C + first
                        compute(arrays, table, start, count, base + first, gap, at, gap, c - first, divisor, g)
                    start += TABLE_TAPS
        position = row_begin + row_end


@inlined
def walk_few(block, g, find_row, find_place, fill, compute, arrays):
    """As `walk`, for fewer channels than lanes.

    Results `phases` apart (forward: neighbours; backward: as far apart as windows are) have the same taps of sources
    side by side. A run of ``phases * lanes`` results is one vector per phase and channel; outside the runs there is
    one position per vector. The last run of a row overlaps the one before.
    """
    lane_count = lanes(arrays[0])
    width = g.phases * lane_count
    table = tap_slots()
    position, end = block * g.step, min((block + 1) * g.step, g.results)
    while position < end:
        n, d, h, w, row_end = locate(position, end, g)
        row = find_row(n, d, h, g)
        row_begin = position - w
        filled = -1
        run_begin, run_end = max(w, g.run_begin), min(row_end, g.run_end)
        if run_end - run_begin < width:
            run_end = run_begin
        while w < row_end:
            advanced, steps, channels, source, result = 1, 1, 1, (1, g.C), (1, g.C)
            if run_begin <= w < run_end:
                w = min(w, run_end - width)
                advanced, steps, channels = width, g.phases, g.C
                source, result = (g.SW // g.phases * g.C, lane_count), (g.phases * g.C, lane_count)
            for phase in range(w, w + steps):
                base, taps, key, divisor, found = find_place(row, phase, g)
                at = (row_begin + phase) * g.C
                start = 0
                while start == 0 or start < taps:
                    count = min(taps - start, TABLE_TAPS)
                    if key != filled or key < 0 or taps > TABLE_TAPS:
                        fill(table, arrays, start, count, row, phase, found, g)
                        filled = key
                    for c in range(channels):
                        compute(arrays, table, start, count, base + c, source, at + c, result, 0, divisor, g)
                    start += TABLE_TAPS
            w += advanced
        position = row_begin + row_end
