"""Copies of what output positions read, one row of a matrix each: in the order of the weights, padding included."""

from __future__ import annotations

from ._build import device, kernel
from .layout import copy_transposed
from .pointer import as_integers, offset
from .runs import clear_run, copy_run
from .sources import Sources, following_row, locate, source_at


@device
def _copy_line(target, line, w, channels, pitch, s):
    """The taps of a line, the first of which reads column `w`: ``target[channel * pitch + tap]``."""
    if s.spread_w == 1 and w >= 0 and w + s.taps_w <= s.size_w:
        inside = offset(line, w * channels)
        if channels == 1:
            copy_run(target, inside, s.taps_w)
            return
        copy_transposed(as_integers(inside), 0, channels, as_integers(target), 0, pitch, s.taps_w, channels)
        return
    for tap in range(s.taps_w):
        at = source_at(w + tap * s.spread_w, s.size_w, s.mode_w)
        for c in range(channels):
            target[c * pitch + tap] = line[at * channels + c] if at >= 0 else 0


@device
def _copy_patch(target, sample, first_d, first_h, first_w, channels, s):
    """What an output position reads whose tap 0 reads (`first_d`, `first_h`, `first_w`)."""
    pitch = s.taps_d * s.taps_h * s.taps_w
    for kd in range(s.taps_d):
        d = source_at(first_d + kd * s.spread_d, s.size_d, s.mode_d)
        for kh in range(s.taps_h):
            h = source_at(first_h + kh * s.spread_h, s.size_h, s.mode_h)
            if d >= 0 and h >= 0:
                _copy_line(target, offset(sample, d * s.stride_d + h * s.stride_h), first_w, channels, pitch, s)
            else:
                for c in range(channels):
                    clear_run(offset(target, c * pitch), s.taps_w)
            target = offset(target, s.taps_w)


@kernel
def gather_patches(
    block, x: "T*", rows: "T*", first: "int64", last: "int64", channels: "int64", block_rows: "int64", s: "Sources"
):
    """One block: the patches of the next output positions from `first` on, but not `last`; theirs is row 0.

    ``rows[position - first][channel][kd][kh][kw]``
    """
    begin = first + block * block_rows
    n, d, h, w = locate(begin, s)
    pitch = channels * s.taps_d * s.taps_h * s.taps_w
    for position in range(begin, min(begin + block_rows, last)):
        target = offset(rows, (position - first) * pitch)
        at_d, at_h, at_w = s.first_d + d * s.slope_d, s.first_h + h * s.slope_h, s.first_w + w * s.slope_w
        _copy_patch(target, offset(x, n * s.stride_n), at_d, at_h, at_w, channels, s)
        w += 1
        if w == s.points_w:
            w = 0
            n, d, h = following_row(n, d, h, s)
