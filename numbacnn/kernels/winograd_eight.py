"""Winograd's transforms of eight points along one axis: F(6, 3), F(5, 4) and F(4, 5); see `winograd_transform`.

The points are 0, +-5/8, +-1, +-7/4 and infinity, in this order: of those tried, which have exact squares and products,
the ones with the smallest errors in float32, some five times those of six points.
"""

from __future__ import annotations

from ._build import device
from .pointer import load_pointer
from .simd import fma, lanes, load, splat, store
from .winograd_rows import four_pointers, put, two_pointers

A, C = 0.625, 1.75  # and B = 1
A2, C2 = A * A, C * C
A4, C4 = A2 * A2, C2 * C2
PRODUCT, SUM = A2 * C2, A2 + C2
# Derivatives of the modulus at its roots, inverted: what the weights' values are divided by.
AT_0, AT_B = -1 / PRODUCT, 1 / (2 * (1 - A2) * (1 - C2))
AT_A, AT_C = 1 / (2 * A2 * (A2 - 1) * (A2 - C2)), 1 / (2 * C2 * (C2 - A2) * (C2 - 1))


@device
def input_points(source, first, step, target, target_first, target_step, count, like):
    """``B^T x`` for `count` channels, at least one vector of them."""
    x0, x1, x2, x3 = four_pointers(source, first, step, like)
    x4, x5, x6, x7 = four_pointers(source, first + 4 * step, step, like)
    y0, y1, y2, y3 = four_pointers(target, target_first, target_step, like)
    y4, y5, y6, y7 = four_pointers(target, target_first + 4 * target_step, target_step, like)
    for i in range(0, count, lanes(like)):
        c = min(i, count - lanes(like))  # the last vector overlaps the one before
        d1, d2, d3, d4, d5, d6 = load(x1, c), load(x2, c), load(x3, c), load(x4, c), load(x5, c), load(x6, c)
        even, odd = fma(d2, PRODUCT, fma(d4, -SUM, d6)), fma(d1, PRODUCT, fma(d3, -SUM, d5))
        store(y3, c, even + odd)
        store(y4, c, even - odd)
        # Differences by one: products with x^2 - 1.
        even_low, even_high, odd_low, odd_high = d4 - d2, d6 - d4, d3 - d1, d5 - d3
        store(y0, c, fma(d2 - load(x0, c), PRODUCT, fma(even_low, -SUM, even_high)))
        store(y7, c, fma(odd_low, PRODUCT, fma(odd_high, -SUM, load(x7, c) - d5)))
        even, odd = fma(even_low, -C2, even_high), fma(odd_low, -C2, odd_high)
        store(y1, c, fma(odd, A, even))
        store(y2, c, fma(odd, -A, even))
        even, odd = fma(even_low, -A2, even_high), fma(odd_low, -A2, odd_high)
        store(y5, c, fma(odd, C, even))
        store(y6, c, fma(odd, -C, even))


@device
def output_values(outputs, source, first, step, target, target_first, target_step, start, count, adds, like):
    """``start + A^T m`` for `count` channels, four to six outputs; source rows are whole vectors long."""
    x0, x1, x2, x3 = four_pointers(source, first, step, like)
    x4, x5, x6, x7 = four_pointers(source, first + 4 * step, step, like)
    y0, y1, y2, y3 = four_pointers(target, target_first, target_step, like)
    y4, y5 = two_pointers(target, target_first + 4 * target_step, target_step, like)
    for c in range(0, count, lanes(like)):
        m1, m2, m3, m4, m5, m6 = load(x1, c), load(x2, c), load(x3, c), load(x4, c), load(x5, c), load(x6, c)
        base, last = load(start, c), load(x7, c)
        sum_a, sum_c, difference_a, difference_c = m1 + m2, m5 + m6, m1 - m2, m5 - m6
        even, odd = base + (m3 + m4), base + (m3 - m4)
        put(y0, c, (even + load(x0, c)) + (sum_a + sum_c), count, adds)
        put(y1, c, fma(difference_a, A, fma(difference_c, C, odd)), count, adds)
        put(y2, c, fma(sum_a, A2, fma(sum_c, C2, even)), count, adds)
        fourth = fma(difference_a, A * A2, fma(difference_c, C * C2, odd))
        if outputs == 4:
            put(y3, c, fourth + last, count, adds)
            continue
        put(y3, c, fourth, count, adds)
        fifth = fma(sum_a, A4, fma(sum_c, C4, even))
        if outputs == 5:
            put(y4, c, fifth + last, count, adds)
            continue
        put(y4, c, fifth, count, adds)
        put(y5, c, fma(difference_a, A * A4, fma(difference_c, C * C4, odd)) + last, count, adds)


@device
def weight_points(taps, there, source, step, target, point_step):
    """``G w`` of one vector for three to five taps `step` elements apart, of which the first are there, or for one."""
    w0 = load(source, 0)
    if taps == 1:
        store(target, 0, w0)
        return
    w1 = w2 = w3 = w4 = last = splat(target, 0.0)
    if there > 1:
        w1 = load(source, step)
    if there > 2:
        w2 = load(source, 2 * step)
    if there > 3:
        w3 = load(source, 3 * step)
    if there > 4:
        w4 = load(source, 4 * step)
    if there == taps:
        last = load(source, (taps - 1) * step)
    store(target, 0, w0 * AT_0)
    even, odd = fma(w4, A4, fma(w2, A2, w0)) * AT_A, fma(w3, A2, w1) * (A * AT_A)
    store(target, point_step, even + odd)
    store(target, 2 * point_step, even - odd)
    even, odd = ((w0 + w2) + w4) * AT_B, (w1 + w3) * AT_B
    store(target, 3 * point_step, even + odd)
    store(target, 4 * point_step, even - odd)
    even, odd = fma(w4, C4, fma(w2, C2, w0)) * AT_C, fma(w3, C2, w1) * (C * AT_C)
    store(target, 5 * point_step, even + odd)
    store(target, 6 * point_step, even - odd)
    store(target, 7 * point_step, last)


@device
def gradient_points(outputs, source, first, step, target, target_first, target_step, count, like):
    """``A y`` for `count` channels, at least one vector of them."""
    x0, x1, x2, x3 = four_pointers(source, first, step, like)
    x4, x5 = two_pointers(source, first + 4 * step, step, like)
    y0, y1, y2, y3 = four_pointers(target, target_first, target_step, like)
    y4, y5, y6, y7 = four_pointers(target, target_first + 4 * target_step, target_step, like)
    for i in range(0, count, lanes(like)):
        c = min(i, count - lanes(like))
        d0, d1, d2, d3 = load(x0, c), load(x1, c), load(x2, c), load(x3, c)
        d4, d5, last = splat(like, 0.0), splat(like, 0.0), d3
        if outputs > 4:
            d4 = load(x4, c)
            last = d4
        if outputs > 5:
            d5 = load(x5, c)
            last = d5
        store(y0, c, d0)
        even, odd = fma(d4, A4, fma(d2, A2, d0)), fma(d5, A4, fma(d3, A2, d1))
        store(y1, c, fma(odd, A, even))
        store(y2, c, fma(odd, -A, even))
        even, odd = (d0 + d2) + d4, (d1 + d3) + d5
        store(y3, c, even + odd)
        store(y4, c, even - odd)
        even, odd = fma(d4, C4, fma(d2, C2, d0)), fma(d5, C4, fma(d3, C2, d1))
        store(y5, c, fma(odd, C, even))
        store(y6, c, fma(odd, -C, even))
        store(y7, c, last)


@device
def weight_gradient(taps, source, first, step, target, target_first, target_step, count, like):
    """``G^T m`` for `count` channels; rows are whole vectors long."""
    x0, x1, x2, x3 = four_pointers(source, first, step, like)
    x4, x5, x6, x7 = four_pointers(source, first + 4 * step, step, like)
    y0, y1, y2, y3 = four_pointers(target, target_first, target_step, like)
    y4 = load_pointer(target, target_first + 4 * target_step, like)
    for c in range(0, count, lanes(like)):
        m1, m2, m3, m4, m5, m6 = load(x1, c), load(x2, c), load(x3, c), load(x4, c), load(x5, c), load(x6, c)
        last = load(x7, c)
        sum_a, sum_c, difference_a, difference_c = m1 + m2, m5 + m6, m1 - m2, m5 - m6
        even, odd = (m3 + m4) * AT_B, (m3 - m4) * AT_B
        store(y0, c, fma(load(x0, c), AT_0, fma(sum_a, AT_A, fma(sum_c, AT_C, even))))
        store(y1, c, fma(difference_a, A * AT_A, fma(difference_c, C * AT_C, odd)))
        third = fma(sum_a, A2 * AT_A, fma(sum_c, C2 * AT_C, even))
        if taps == 3:
            store(y2, c, third + last)
            continue
        store(y2, c, third)
        fourth = fma(difference_a, A * A2 * AT_A, fma(difference_c, C * C2 * AT_C, odd))
        if taps == 4:
            store(y3, c, fourth + last)
            continue
        store(y3, c, fourth)
        store(y4, c, fma(sum_a, A4 * AT_A, fma(sum_c, C4 * AT_C, even)) + last)
