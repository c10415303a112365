"""Winograd's transforms along one axis, on vectors of channels.

Products of polynomials modulo ``x (x^2 - a^2) (x^2 - b^2) (x - infinity)`` give four outputs of a kernel of three taps
for six multiplications instead of twelve, F(4, 3); modulo ``x (x^2 - 1) (x - infinity)`` two outputs for four instead
of six, F(2, 3). The same six points give five outputs of two taps, three of four, or two of five, F(2, 5), for six
multiplications instead of ten; with a third pair of points (`winograd_eight`) there are two outputs more. With the
matrices of the literature, ``y = A^T [(G w) * (B^T x)]``; the gradients need A and G^T, too.

An image of three points between zeros (as under a dilation of a third of its size) takes four multiplications, not the
seven that are no products with zeros, or the five of F(3, 3). Its matrix is ``w1 I + (w0 + w2) / 2 (L + U) + (w0 - w2)
/ 2 (L - U)``, where L and U shift down and up. With a fourth coordinate, zero in the input and not looked at in the
output, matrices that agree with L and U on the three have the eigenvectors (t, 1, t, t^2) for t = +-1 / sqrt(k + 1) and
(t, 1, -t, t^2) for t = +-1 / sqrt(k - 1) in common, for any k > 1; what the weights are multiplied by are eigenvalues.
Errors are least about k = 2.

A transform's `form` is its number of points, 8, 6 or 4, or 3 for these.

======================  ======  =================================================================
transform               matrix  from, to
======================  ======  =================================================================
`input_points`          B^T     inputs of a tile -> values at the points
`weight_points`         G       taps -> values at the points
`output_values`         A^T     products at the points -> outputs of a tile
`gradient_points`       A       the outputs' gradients of a tile -> values at the points
`weight_gradient`       G^T     sums of products at the points -> gradient of the taps
======================  ======  =================================================================

The points 0, +-3/4, +-3/2 and infinity have exact squares and products, and their float32 errors are a third of those
of the usual 0, +-1, +-2 (Alam et al., "Winograd convolution for deep neural networks: efficient point selection",
2022). The order of the values is 0, a, -a, b, -b, infinity.

Sources and destinations are rows of channels, reached through tables of pointers: entry ``first + k * step`` for the
k-th. Rows may lie anywhere, which is how padding (a row of zeros) and outputs beyond an edge (a row that nobody reads)
cost no test in the loops.

After Lavin and Gray, "Fast algorithms for convolutional neural networks" (2016).
"""

from __future__ import annotations

from . import winograd_eight as eight
from ._build import device, inlined
from .pointer import load_pointer, offset
from .simd import fma, lanes, load, splat, store
from .winograd_rows import four_pointers, put, two_pointers

A, B = 0.75, 1.5
A2, B2 = A * A, B * B
A3, B3 = A * A2, B * B2
A4, B4 = A2 * A2, B2 * B2
PRODUCT, SUM = A2 * B2, A2 + B2
# Derivatives of the modulus at its roots, inverted: what the weights' values are divided by.
AT_0, AT_A, AT_B = 1 / PRODUCT, 1 / (2 * A2 * (A2 - B2)), 1 / (2 * B2 * (B2 - A2))
THIRD = 3**-0.5  # of an image of three points; the other eigenvalue is 1


@device
def input_points(form, source, first, step, target, target_first, target_step, count, like):
    """``B^T x`` for `count` channels, at least one vector of them."""
    if form == 8:
        eight.input_points(source, first, step, target, target_first, target_step, count, like)
        return
    x0, x1, x2, x3 = four_pointers(source, first, step, like)
    y0, y1, y2, y3 = four_pointers(target, target_first, target_step, like)
    if form == 3:  # the first input is a zero
        for i in range(0, count, lanes(like)):
            c = min(i, count - lanes(like))  # the last vector overlaps the one before
            d1, d2, d3 = load(x1, c), load(x2, c), load(x3, c)
            total, difference = d1 + d3, d1 - d3
            store(y0, c, fma(total, THIRD, d2))
            store(y1, c, fma(total, -THIRD, d2))
            store(y2, c, d2 - difference)
            store(y3, c, d2 + difference)
        return
    if form == 4:
        for i in range(0, count, lanes(like)):
            c = min(i, count - lanes(like))
            d1, d2 = load(x1, c), load(x2, c)
            store(y0, c, d2 - load(x0, c))
            store(y1, c, d2 + d1)
            store(y2, c, d2 - d1)
            store(y3, c, load(x3, c) - d1)
        return
    x4, x5 = two_pointers(source, first + 4 * step, step, like)
    y4, y5 = two_pointers(target, target_first + 4 * target_step, target_step, like)
    for i in range(0, count, lanes(like)):
        c = min(i, count - lanes(like))
        d1, d2, d3, d4 = load(x1, c), load(x2, c), load(x3, c), load(x4, c)
        store(y0, c, fma(load(x0, c), PRODUCT, fma(d2, -SUM, d4)))
        store(y5, c, fma(d1, PRODUCT, fma(d3, -SUM, load(x5, c))))
        even, odd = fma(d2, -B2, d4), fma(d1, -B2, d3)
        store(y1, c, fma(odd, A, even))
        store(y2, c, fma(odd, -A, even))
        even, odd = fma(d2, -A2, d4), fma(d1, -A2, d3)
        store(y3, c, fma(odd, B, even))
        store(y4, c, fma(odd, -B, even))


@device
def output_values(form, outputs, source, first, step, target, target_first, target_step, start, count, adds, like):
    """``start + A^T m`` for `count` channels; source rows are whole vectors long. See `_put`."""
    if form == 8:
        eight.output_values(
            outputs, source, first, step, target, target_first, target_step, start, count, adds, like
        )  # fmt: skip
        return
    x0, x1, x2, x3 = four_pointers(source, first, step, like)
    y0, y1 = two_pointers(target, target_first, target_step, like)
    if form == 3:
        y2 = load_pointer(target, target_first + 2 * target_step, like)
        for c in range(0, count, lanes(like)):
            m0, m1, m2, m3, base = load(x0, c), load(x1, c), load(x2, c), load(x3, c), load(start, c)
            outer, difference = fma(m0 - m1, THIRD, base), m2 - m3
            put(y0, c, outer + difference, count, adds)
            put(y1, c, base + ((m0 + m1) + (m2 + m3)), count, adds)
            put(y2, c, outer - difference, count, adds)
        return
    if form == 4:
        for c in range(0, count, lanes(like)):
            m1, m2, base = load(x1, c), load(x2, c), load(start, c)
            put(y0, c, base + (load(x0, c) + (m1 + m2)), count, adds)
            put(y1, c, base + (load(x3, c) + (m1 - m2)), count, adds)
        return
    x4, x5 = two_pointers(source, first + 4 * step, step, like)
    y2, y3 = two_pointers(target, target_first + 2 * target_step, target_step, like)
    y4 = load_pointer(target, target_first + 4 * target_step, like)
    for c in range(0, count, lanes(like)):
        m1, m2, m3, m4, base = load(x1, c), load(x2, c), load(x3, c), load(x4, c), load(start, c)
        sum_a, sum_b, difference_a, difference_b = m1 + m2, m3 + m4, m1 - m2, m3 - m4
        put(y0, c, base + (load(x0, c) + (sum_a + sum_b)), count, adds)
        second = fma(difference_a, A, fma(difference_b, B, base))
        third = fma(sum_a, A2, fma(sum_b, B2, base))
        if outputs == 2:
            put(y1, c, second + load(x5, c), count, adds)
        elif outputs == 3:
            put(y1, c, second, count, adds)
            put(y2, c, third + load(x5, c), count, adds)
        else:
            put(y1, c, second, count, adds)
            put(y2, c, third, count, adds)
            fourth = fma(difference_a, A3, fma(difference_b, B3, base))
            if outputs == 4:
                put(y3, c, fourth + load(x5, c), count, adds)
            else:
                put(y3, c, fourth, count, adds)
                put(y4, c, base + fma(sum_a, A4, fma(sum_b, B4, load(x5, c))), count, adds)


@inlined
def _axis_points(form, w0, w1, w2):
    """``G w`` along one axis; of four points, the last two values mean nothing."""
    if form == 3:
        outer, middle, difference = (w0 + w2) * (0.75 * THIRD), w1 * 0.75, w0 - w2
        return middle + outer, middle - outer, (w1 + difference) * -0.25, (w1 - difference) * -0.25, w2, w2
    if form == 4:
        even, odd = (w0 + w2) * 0.5, w1 * 0.5
        return -w0, even + odd, even - odd, w2, w2, w2
    even_a, odd_a = fma(w2, A2, w0) * AT_A, w1 * (A * AT_A)
    even_b, odd_b = fma(w2, B2, w0) * AT_B, w1 * (B * AT_B)
    return w0 * AT_0, even_a + odd_a, even_a - odd_a, even_b + odd_b, even_b - odd_b, w2


@inlined
def _store_points(form, target, step, values):
    """Store the values at the points of one axis."""
    store(target, 0, values[0])
    store(target, step, values[1])
    store(target, 2 * step, values[2])
    store(target, 3 * step, values[3])
    if form == 6:
        store(target, 4 * step, values[4])
        store(target, 5 * step, values[5])


@inlined
def _many_axis_points(taps, w0, w1, w2, w3, w4):
    """``G w`` along one axis for the values at six points of four or five taps; of four, `w4` means nothing."""
    even_a, even_b, last = fma(w2, A2, w0), fma(w2, B2, w0), w3
    if taps == 5:
        even_a, even_b, last = fma(w4, A4, even_a), fma(w4, B4, even_b), w4
    even_a, odd_a = even_a * AT_A, fma(w3, A2, w1) * (A * AT_A)
    even_b, odd_b = even_b * AT_B, fma(w3, B2, w1) * (B * AT_B)
    return w0 * AT_0, even_a + odd_a, even_a - odd_a, even_b + odd_b, even_b - odd_b, last


@device
def _transform_line(form, taps, source, step, target, point_step):
    """``G w`` of one vector along one axis, from taps `step` elements apart to points `point_step` apart."""
    if form == 8:
        eight.weight_points(taps, taps, source, step, target, point_step)
        return
    w0 = load(source, 0)
    if taps == 1:
        store(target, 0, w0)
        return
    w1, w2 = load(source, step), load(source, 2 * step)
    if taps == 3:
        _store_points(form, target, point_step, _axis_points(form, w0, w1, w2))
    else:
        values = _many_axis_points(taps, w0, w1, w2, load(source, 3 * step), load(source, (taps - 1) * step))
        _store_points(form, target, point_step, values)


@device
def stretch_points(form, taps, there, source, step, target, point_step):
    """``G w`` of one vector for two to five taps `step` elements apart, of which the first are there."""
    if form == 8:
        eight.weight_points(taps, there, source, step, target, point_step)
        return
    w0, last = load(source, 0), splat(target, 0.0)
    even_a, even_b, odd_a, odd_b = w0, w0, last, last
    if there >= taps:
        last = load(source, (taps - 1) * step)
    if there > 1:
        odd_a = odd_b = load(source, step)
    if there > 2:
        w2 = load(source, 2 * step)
        even_a, even_b = fma(w2, A2, even_a), fma(w2, B2, even_b)
    if there > 3:
        w3 = load(source, 3 * step)
        odd_a, odd_b = fma(w3, A2, odd_a), fma(w3, B2, odd_b)
    if there > 4:
        w4 = load(source, 4 * step)
        even_a, even_b = fma(w4, A4, even_a), fma(w4, B4, even_b)
    even_a, odd_a = even_a * AT_A, odd_a * (A * AT_A)
    even_b, odd_b = even_b * AT_B, odd_b * (B * AT_B)
    values = w0 * AT_0, even_a + odd_a, even_a - odd_a, even_b + odd_b, even_b - odd_b, last
    _store_points(6, target, point_step, values)


@device
def many_weight_points(form_h, form_w, taps_h, taps_w, taps, step, backwards, buffer, target, point_step):
    """`weight_points` for kernels of any size, a line at a time; rows between the two passes lie in `buffer`."""
    first = 0
    if backwards:
        first, step = (taps_h * taps_w - 1) * step, -step
    n = lanes(target)
    for j in range(taps_w):
        line = offset(taps, first + j * step)
        _transform_line(form_h, taps_h, line, taps_w * step, offset(buffer, j * n), taps_w * n)
    points_w = max(form_w, 4) if taps_w > 1 else 1
    for i in range(max(form_h, 4) if taps_h > 1 else 1):
        line = offset(buffer, i * taps_w * n)
        _transform_line(form_w, taps_w, line, n, offset(target, i * points_w * point_step), point_step)


@inlined
def _three(row, first, step):
    return load(row, first), load(row, first + step), load(row, first + 2 * step)


@device
def weight_points(form_h, form_w, taps, step, backwards, target, point_step):
    """``G w G^T`` of one vector, with three taps per axis or one.

    They lie `step` elements apart in `taps`, in reverse if `backwards`.
    """
    count = min(form_h, 3) * min(form_w, 3)
    first = 0
    if backwards:
        first, step = (count - 1) * step, -step
    if count == 3:
        w0, w1, w2 = _three(taps, first, step)
        form = max(form_h, form_w)
        _store_points(form, target, point_step, _axis_points(form, w0, w1, w2))
        return
    w00, w01, w02 = _three(taps, first, step)
    w10, w11, w12 = _three(taps, first + 3 * step, step)
    w20, w21, w22 = _three(taps, first + 6 * step, step)
    x = _axis_points(form_h, w00, w10, w20)
    y = _axis_points(form_h, w01, w11, w21)
    z = _axis_points(form_h, w02, w12, w22)
    row = max(form_w, 4) * point_step
    _store_points(form_w, target, point_step, _axis_points(form_w, x[0], y[0], z[0]))
    _store_points(form_w, offset(target, row), point_step, _axis_points(form_w, x[1], y[1], z[1]))
    _store_points(form_w, offset(target, 2 * row), point_step, _axis_points(form_w, x[2], y[2], z[2]))
    _store_points(form_w, offset(target, 3 * row), point_step, _axis_points(form_w, x[3], y[3], z[3]))
    if form_h == 6:
        _store_points(form_w, offset(target, 4 * row), point_step, _axis_points(form_w, x[4], y[4], z[4]))
        _store_points(form_w, offset(target, 5 * row), point_step, _axis_points(form_w, x[5], y[5], z[5]))


@device
def gradient_points(form, outputs, source, first, step, target, target_first, target_step, count, like):
    """``A y`` for `count` channels, at least one vector of them."""
    if form == 8:
        eight.gradient_points(outputs, source, first, step, target, target_first, target_step, count, like)
        return
    x0, x1 = two_pointers(source, first, step, like)
    y0, y1, y2, y3 = four_pointers(target, target_first, target_step, like)
    if form == 3:
        x2 = load_pointer(source, first + 2 * step, like)
        for i in range(0, count, lanes(like)):
            c = min(i, count - lanes(like))
            d0, d1, d2 = load(x0, c), load(x1, c), load(x2, c)
            total, difference = d0 + d2, d0 - d2
            store(y0, c, fma(total, THIRD, d1))
            store(y1, c, fma(total, -THIRD, d1))
            store(y2, c, d1 + difference)
            store(y3, c, d1 - difference)
        return
    if form == 4:
        for i in range(0, count, lanes(like)):
            c = min(i, count - lanes(like))
            d0, d1 = load(x0, c), load(x1, c)
            store(y0, c, d0)
            store(y1, c, d0 + d1)
            store(y2, c, d0 - d1)
            store(y3, c, d1)
        return
    x2, x3 = two_pointers(source, first + 2 * step, step, like)
    x4 = load_pointer(source, first + 4 * step, like)
    y4, y5 = two_pointers(target, target_first + 4 * target_step, target_step, like)
    for i in range(0, count, lanes(like)):
        c = min(i, count - lanes(like))
        d0, d1 = load(x0, c), load(x1, c)
        d2, d3, d4, last = splat(like, 0.0), splat(like, 0.0), splat(like, 0.0), d1
        if outputs > 2:
            d2 = load(x2, c)
            last = d2
        if outputs > 3:
            d3 = load(x3, c)
            last = d3
        if outputs > 4:
            d4 = load(x4, c)
            last = d4
        store(y0, c, d0)
        even, odd = fma(d4, A4, fma(d2, A2, d0)), fma(d3, A2, d1)
        store(y1, c, fma(odd, A, even))
        store(y2, c, fma(odd, -A, even))
        even, odd = fma(d4, B4, fma(d2, B2, d0)), fma(d3, B2, d1)
        store(y3, c, fma(odd, B, even))
        store(y4, c, fma(odd, -B, even))
        store(y5, c, last)


@device
def weight_gradient(form, taps, source, first, step, target, target_first, target_step, count, like):
    """``G^T m`` for `count` channels; rows are whole vectors long."""
    if form == 8:
        eight.weight_gradient(taps, source, first, step, target, target_first, target_step, count, like)
        return
    x0, x1, x2, x3 = four_pointers(source, first, step, like)
    y0, y1, y2, y3 = four_pointers(target, target_first, target_step, like)
    y4 = load_pointer(target, target_first + 4 * target_step, like)
    if form == 3:
        for c in range(0, count, lanes(like)):
            m0, m1, m2, m3 = load(x0, c), load(x1, c), load(x2, c), load(x3, c)
            outer, difference = (m0 - m1) * (0.75 * THIRD), (m2 - m3) * 0.25
            store(y0, c, outer - difference)
            store(y1, c, fma(m0 + m1, 0.75, (m2 + m3) * -0.25))
            store(y2, c, outer + difference)
        return
    if form == 4:
        for c in range(0, count, lanes(like)):
            m0, m1, m2 = load(x0, c), load(x1, c), load(x2, c)
            half = (m1 + m2) * 0.5
            store(y0, c, half - m0)
            store(y1, c, (m1 - m2) * 0.5)
            store(y2, c, half + load(x3, c))
        return
    x4, x5 = two_pointers(source, first + 4 * step, step, like)
    for c in range(0, count, lanes(like)):
        m1, m2, m3, m4 = load(x1, c), load(x2, c), load(x3, c), load(x4, c)
        sum_a, sum_b, difference_a, difference_b = m1 + m2, m3 + m4, m1 - m2, m3 - m4
        store(y0, c, fma(load(x0, c), AT_0, fma(sum_a, AT_A, sum_b * AT_B)))
        second = fma(difference_a, A * AT_A, difference_b * (B * AT_B))
        if taps == 2:
            store(y1, c, second + load(x5, c))
            continue
        store(y1, c, second)
        if taps == 3:
            store(y2, c, fma(sum_a, A2 * AT_A, fma(sum_b, B2 * AT_B, load(x5, c))))
            continue
        store(y2, c, fma(sum_a, A2 * AT_A, sum_b * (B2 * AT_B)))
        fourth = fma(difference_a, A3 * AT_A, difference_b * (B3 * AT_B))
        if taps == 4:
            store(y3, c, fourth + load(x5, c))
        else:
            store(y3, c, fourth)
            store(y4, c, fma(sum_a, A4 * AT_A, fma(sum_b, B4 * AT_B, load(x5, c))))
