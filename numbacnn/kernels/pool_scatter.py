"""The gradient of max pooling: each output's gradient is added to the input element that won its window.

A block owns a stretch of one sample's input, so no two blocks write the same element: it looks at every output whose
window may touch the stretch and leaves winners outside it to their own blocks. An element sums up its windows in
row-major order, wherever the stretches begin.
"""

from __future__ import annotations

from ._build import device, kernel
from .pointer import offset
from .pool_walk import Pool


@device
def touching(first, last, IN, OUT, K, S, P, D):
    """The outputs whose windows may touch inputs `first` to `last` on one axis: the first, and one past the last."""
    if S == 0:
        return first * OUT // IN, ((last + 1) * OUT + IN - 1) // IN
    low = first + P - (K - 1) * D
    return ((low + S - 1) // S if low > 0 else 0), min(OUT, (last + P) // S + 1)


@device
def window_begin(o, IN, OUT, S, P):
    """The coordinate of an output's first tap on one axis, be it in the padding."""
    return o * IN // OUT if S == 0 else o * S - P


@kernel(I=("uint8", "uint16", "int32"))
def max_pool_backward(block, grad: "T*", offsets: "I*", taps: "int64*", reach: "int64", out: "T*", g: "Pool"):
    """One block: ``g.step`` positions of one sample.

    `taps` holds how many elements each tap of a window is from the first; the last is `reach` positions from it.
    """
    n = block // g.channel_blocks
    first = (block - n * g.channel_blocks) * g.step
    end = min(first + g.step, g.ID * g.IH * g.IW)
    sample = offset(out, n * g.ID * g.IH * g.IW * g.C)
    for i in range(first * g.C, end * g.C):
        sample[i] = 0

    # On an axis on which the stretch begins and ends at different places, it covers all places further inside.
    row, last_row = first // g.IW, (end - 1) // g.IW
    plane, last_plane = row // g.IH, last_row // g.IH
    d_begin, d_end = touching(plane, last_plane, g.ID, g.OD, g.KD, g.SD, g.PD, g.DD)
    h_begin, h_end, w_begin, w_end = 0, g.OH, 0, g.OW
    if plane == last_plane:
        y, last_y = row - plane * g.IH, last_row - plane * g.IH
        h_begin, h_end = touching(y, last_y, g.IH, g.OH, g.KH, g.SH, g.PH, g.DH)
    if row == last_row:
        x, last_x = first - row * g.IW, end - 1 - row * g.IW
        w_begin, w_end = touching(x, last_x, g.IW, g.OW, g.KW, g.SW, g.PW, g.DW)

    for od in range(d_begin, d_end):
        plane_begin = window_begin(od, g.ID, g.OD, g.SD, g.PD) * g.IH
        for oh in range(h_begin, h_end):
            row_begin = (plane_begin + window_begin(oh, g.IH, g.OH, g.SH, g.PH)) * g.IW
            for ow in range(w_begin, w_end):
                begin = row_begin + window_begin(ow, g.IW, g.OW, g.SW, g.PW)
                source = (((n * g.OD + od) * g.OH + oh) * g.OW + ow) * g.C
                target = begin * g.C
                if begin >= first and begin + reach < end:
                    for c in range(g.C):
                        sample[target + c + taps[offsets[source + c]]] += grad[source + c]
                else:
                    for c in range(g.C):
                        winner = target + c + taps[offsets[source + c]]
                        if first * g.C <= winner < end * g.C:
                            sample[winner] += grad[source + c]
