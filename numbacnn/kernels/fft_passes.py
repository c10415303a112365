"""Discrete Fourier transforms of blocks, in place, many at a time: one in each lane of a vector.

A block is so many *rows*, and a row one complex number per lane: a vector of real parts, then one of imaginary parts.
The rows stand for the positions of up to three axes, the last one fastest. A *pass* splits contiguous parts of the
block into two, three, four or eight parts of their own (decimation in frequency, W. Gentleman and G. Sande, 1966);
after the last, each part is one row. Passes over a slow axis come first, so that the same few lines serve any number of
axes.

Values then lie in digit-reversed order. They stay there: products at each frequency do not mind the order, and
`join` undoes the passes of `split` one by one (decimation in time, J. Cooley and J. Tukey, 1965). Neither scales.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from ._build import device, inlined, intrinsic
from ._target import target
from .emitter import Emitter
from .pointer import offset
from .simd import lanes, load, store
from .value import Value

if TYPE_CHECKING:
    from collections.abc import Callable

# A table of passes: per pass, into how many parts, rows of what it splits, rows of the faster axes, and where its
# factors begin. For the j-th position of each part these are a complex number for every part but the first.
PASS_COLUMNS = 4
# Eight parts are sixteen vectors, beside which sixteen registers would hold nothing.
RADICES = (8, 4, 3, 2) if target().registers >= 32 else (4, 3, 2)


class _Complex(NamedTuple):
    """A row while it is computed with: the emitter's values of both its vectors."""

    re: Value
    im: Value

    def __add__(self, other: Any) -> _Complex:
        return _Complex(self.re + other.re, self.im + other.im)

    def __sub__(self, other: _Complex) -> _Complex:
        return _Complex(self.re - other.re, self.im - other.im)

    def times(self, factor: _Complex) -> _Complex:
        return _Complex(
            self.re.fma(factor.re, -(self.im * factor.im)),
            self.re.fma(factor.im, self.im * factor.re),
        )

    def times_conjugate(self, factor: _Complex) -> _Complex:
        return _Complex(
            self.re.fma(factor.re, self.im * factor.im),
            self.im.fma(factor.re, -(self.re * factor.im)),
        )

    def plus_scaled(self, other: _Complex, scale: float) -> _Complex:
        return _Complex(other.re.fma(scale, self.re), other.im.fma(scale, self.im))

    def scaled(self, scale: float) -> _Complex:
        return _Complex(self.re * scale, self.im * scale)

    def turned(self, direction: int) -> _Complex:
        """Times i (`direction` 1) or -i (-1)."""
        return _Complex(-self.im, self.re) if direction > 0 else _Complex(self.im, -self.re)


def _transform(z: list[_Complex], direction: int) -> list[_Complex]:
    """The Fourier transform of two, three, four or eight numbers; `direction` is the exponent's sign."""
    if len(z) == 2:
        return [z[0] + z[1], z[0] - z[1]]
    if len(z) == 3:
        total, difference = z[1] + z[2], (z[1] - z[2]).scaled(math.sqrt(0.75)).turned(direction)
        middle = z[0].plus_scaled(total, -0.5)
        return [z[0] + total, middle + difference, middle - difference]
    if len(z) == 8:
        even, odd = _transform(z[::2], direction), _transform(z[1::2], direction)
        turned, half = [value.turned(direction) for value in odd], math.sqrt(0.5)
        odd = [odd[0], odd[1] + turned[1], turned[2], turned[3] - odd[3]]
        scales = (1.0, half, 1.0, half)
        return [
            e.plus_scaled(o, sign * scale) for sign in (1, -1) for e, o, scale in zip(even, odd, scales, strict=True)
        ]
    even, odd = [z[0] + z[2], z[0] - z[2]], [z[1] + z[3], (z[1] - z[3]).turned(direction)]
    return [even[0] + odd[0], even[1] + odd[1], even[0] - odd[0], even[1] - odd[1]]


class _Rows(Emitter):
    """Loads and stores of rows, and of factors broadcast to all lanes."""

    def row(self, pointer: Any) -> _Complex:
        return _Complex(self.load(pointer), self.load(pointer, 1))

    def put(self, pointer: Any, row: _Complex) -> None:
        for vector, part in enumerate(row):
            self.store(part, pointer, vector)

    def factor(self, pointer: Any, number: int) -> _Complex:
        scalars = [self.builder.load(self.at(pointer, 2 * number + i), align=self.itemsize) for i in range(2)]
        return _Complex(*(Value(self.builder, scalar).broadcast(self.lanes) for scalar in scalars))


def _split(z: list[_Complex], factors: list[_Complex]) -> list[_Complex]:
    first, *others = _transform(z, -1)
    return [first, *(value.times(factor) for value, factor in zip(others, factors, strict=True))]


def _join(z: list[_Complex], factors: list[_Complex]) -> list[_Complex]:
    others = [value.times_conjugate(factor) for value, factor in zip(z[1:], factors, strict=True)]
    return _transform([z[0], *others], 1)


def _butterfly(compute: Callable[[list[_Complex], list[_Complex]], list[_Complex]]) -> Any:
    """``(number of parts, pointer to a row, elements from one part to the next, factors)``: one row of every part."""

    def butterfly(typingctx: Any, radix: Any, rows: Any, step: Any, factors: Any) -> Any:
        from numba.core import types

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            radix, first, step, factors = args
            e = _Rows(context, builder, rows.dtype)

            def emit(radix: int) -> None:
                places = [e.at(first, e.times(step, i)) for i in range(radix)]
                z = compute([e.row(place) for place in places], [e.factor(factors, i) for i in range(radix - 1)])
                for place, value in zip(places, z, strict=True):
                    e.put(place, value)

            e.choose(radix, RADICES, emit)
            return context.get_dummy_value()

        return types.void(types.int64, rows, types.int64, factors), codegen

    return intrinsic(butterfly)


_split_rows, _join_rows = _butterfly(_split), _butterfly(_join)


@inlined
def get(rows, place):
    """Real and imaginary parts of the row at an element."""
    return load(rows, place), load(rows, place + lanes(rows))


@inlined
def put(rows, place, re, im):
    """Write the row at an element."""
    store(rows, place, re)
    store(rows, place + lanes(rows), im)


@device
def _split_part(rows, radix, step, inner, factors):
    """One pass over the first `step` elements of each of `radix` parts; `inner` elements share factors."""
    width = 2 * lanes(rows)
    p = 0
    while p < step:
        end = p + inner
        while p < end:
            _split_rows(radix, offset(rows, p), step, factors)
            p += width
        factors = offset(factors, 2 * (radix - 1))


@device
def _join_part(rows, radix, step, inner, factors):
    """Undo `_split_part`."""
    width = 2 * lanes(rows)
    p = 0
    while p < step:
        end = p + inner
        while p < end:
            _join_rows(radix, offset(rows, p), step, factors)
            p += width
        factors = offset(factors, 2 * (radix - 1))


@device
def split(rows, total, passes, first, last, factors):
    """The passes from `first` to `last` over `total` rows."""
    width = 2 * lanes(rows)
    for i in range(first, last):
        table = offset(passes, i * PASS_COLUMNS)
        radix, part, inner, at = table[0], table[1], table[2], offset(factors, table[3])
        row = 0
        while row < total:
            _split_part(offset(rows, row * width), radix, part // radix * width, inner * width, at)
            row += part


@device
def join(rows, total, passes, first, last, factors):
    """Undo `split`: the same passes in reverse, each but for a factor of its number of parts."""
    width = 2 * lanes(rows)
    for i in range(last - 1, first - 1, -1):
        table = offset(passes, i * PASS_COLUMNS)
        radix, part, inner, at = table[0], table[1], table[2], offset(factors, table[3])
        row = 0
        while row < total:
            _join_part(offset(rows, row * width), radix, part // radix * width, inner * width, at)
            row += part
