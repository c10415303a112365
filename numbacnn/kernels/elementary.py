"""Elementary functions of scalars and vectors: exp, log, tanh, the logistic and the normal distribution function.

Branch-free, so that LLVM vectorises a loop that calls them; within about 2 ulp (tanh 3), and right for infinities, NaN,
overflow and denormals. The polynomials are near-minimax fits (Lawson's weighted least squares, 50 digits), written
lowest power first, per element size in bytes: 4 is float32, 8 float64.

Range reductions: exp by Cody and Waite, "Software Manual for the Elementary Functions" (1980); log as in Tang,
"Table-driven implementation of the logarithm function" (1990), without the table: log(1 + f) from f / (2 + f).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .simd import elementwise
from .value import Value

LOG2_E = 1.4426950408889634
SQRT_2_OVER_PI = 0.7978845608028654
ONE_OVER_SQRT_2_PI = 0.3989422804014327
GELU_CUBIC = 0.044715  # Hendrycks and Gimpel, "Gaussian Error Linear Units" (2016)


class _Format(NamedTuple):
    """What the bits of a floating-point format mean, and where exp leaves it."""

    mantissa_bits: int
    bias: int
    rounder: float  # 1.5 * 2**mantissa_bits: adding it rounds to an integer, which then sits in the low bits
    ln2_high: float  # so few bits that its product with any exponent is exact
    ln2_low: float
    exp_low: float  # exp is 0 below, to nearest
    exp_high: float  # exp is infinite above
    zero_below: float  # its power of two rounds to one below the smallest normal
    sqrt_half_bits: int
    tiny: float  # smallest normal number
    tiny_scale: int


_FORMATS = {
    4: _Format(
        23,
        127,
        12582912.0,
        0.693145751953125,
        1.4286067653e-06,
        -104.0,
        89.0,
        -88.0,
        0x3F3504F3,
        1.1754943508222875e-38,
        25,
    ),
    8: _Format(
        52,
        1023,
        6755399441055744.0,
        6.93147180369123816490e-01,
        1.90821492927058770002e-10,
        -746.0,
        710.0,
        -709.0,
        0x3FE6A09E667F3BCD,
        2.2250738585072014e-308,
        54,
    ),
}

# (exp(r) - 1 - r) / r**2 for |r| <= log(2) / 2
_EXP = {
    4: (0.49999994, 0.16666521, 0.041668486, 0.008368735, 0.0013809204),
    8: (
        0.5000000000000011,
        0.16666666666666421,
        0.04166666666652934,
        0.008333333333487212,
        0.0013888888943902257,
        0.00019841269523408547,
        2.4801492781600697e-05,
        2.755757065444257e-06,
        2.7630370686304574e-07,
        2.500519985217087e-08,
    ),
}
# (2 atanh(s) - 2 s) / s**3 in powers of s**2, for |s| <= (sqrt(2) - 1) / (sqrt(2) + 1)
_LOG = {
    4: (0.66666776, 0.399774, 0.29875085),
    8: (
        0.6666666666666734,
        0.3999999999941303,
        0.2857142874289902,
        0.22222198508554056,
        0.18183568240772194,
        0.15313937770060282,
        0.14797190842365696,
    ),
}
# tanh is 1 from here on
_TANH_ONE = {4: 10.0, 8: 22.0}
# exp(-h / 2) in powers of h
_EXP_OF_HALF = {
    itemsize: (1.0, -0.5, *(coefficient * (-0.5) ** k for k, coefficient in enumerate(coefficients, 2)))
    for itemsize, coefficients in _EXP.items()
}
# Phi(-u) * exp(u**2 / 2) in powers of s = (u - c) / (u + c), for 0 <= u <= end, where the power of two next to
# exp(-end**2 / 2) is one below the smallest normal number
_NORMAL_RANGE = {4: (3.0, 13.27), 8: (5.0, 37.66)}
_NORMAL = {
    4: (
        0.121513947,
        -0.20640262,
        0.123225042,
        -0.0462132759,
        0.00613194497,
        0.00290446209,
        -0.000983318486,
        -0.000339175358,
        0.000115058283,
        0.0000532828913,
    ),
    8: (
        0.07691930497500629,
        -0.14345755526401197,
        0.11606881188600329,
        -0.08088387726412724,
        0.047855352284170254,
        -0.023413900487696444,
        0.008991370550585681,
        -0.0023788443566448102,
        0.00021955073766702422,
        0.00013427684314820649,
        -6.042748308055609e-05,
        9.61306681350533e-07,
        6.644422390211564e-06,
        -1.2700766950636913e-06,
        -6.750815760706718e-07,
        2.433472828431067e-07,
        7.711193709238606e-08,
        -3.916734959278311e-08,
        -1.0999014698420061e-08,
        5.687889790104059e-09,
        1.827208126960776e-09,
        -5.690199346870897e-10,
        -2.3183952745669274e-10,
    ),
}


def _polynomial(x: Value, table: dict[int, tuple[float, ...]]) -> Value:
    """Horner's rule."""
    coefficients = table[x.itemsize]
    result = x.like(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        result = result.fma(x, coefficient)
    return result


class _Bits:
    """Integer operations on the bits of floating-point values."""

    def __init__(self, like: Value) -> None:
        from llvmlite import ir

        self.ir = ir
        self.builder = like.builder
        self.float_type = like.llvm.type
        self.lanes = like.lanes
        self.scalar = ir.IntType(8 * like.itemsize)
        self.type = ir.VectorType(self.scalar, like.lanes) if like.lanes > 1 else self.scalar

    def constant(self, number: int) -> Any:
        one = self.ir.Constant(self.scalar, number)
        return self.ir.Constant(self.type, [one] * self.lanes) if self.lanes > 1 else one

    def of(self, x: Value) -> Any:
        return self.builder.bitcast(x.llvm, self.type)

    def as_float(self, bits: Any) -> Value:
        return Value(self.builder, self.builder.bitcast(bits, self.float_type))

    def to_float(self, integer: Any) -> Value:
        return Value(self.builder, self.builder.sitofp(integer, self.float_type))


def _reduced(x: Value, rounder: float, form: _Format) -> tuple[Value, Value]:
    """``exp(r) - 1`` and the shifted n of ``x = n * log(2) + r``: its lowest bits are those of n and the rounder."""
    shifted = x.fma(LOG2_E, rounder)
    n = shifted - rounder
    r = n.fma(-form.ln2_low, n.fma(-form.ln2_high, x))
    return (r * r).fma(_polynomial(r, _EXP), r), shifted


def _exp(x: Value) -> Value:
    """The power of two in two factors, so that neither leaves the format."""
    form = _FORMATS[x.itemsize]
    b, bits = x.builder, _Bits(x)
    less, shifted = _reduced(x.minimum(form.exp_high).maximum(form.exp_low), form.rounder, form)
    value = less + 1.0
    exponent = b.sub(bits.of(shifted), bits.of(x.like(form.rounder)))
    half = b.ashr(exponent, bits.constant(1))
    for part in (half, b.sub(exponent, half)):
        value = value * bits.as_float(b.shl(b.add(part, bits.constant(form.bias)), bits.constant(form.mantissa_bits)))
    return value


def _exp_normal(x: Value) -> Value:
    """As `_exp`, in two thirds of the time: 0 where that is no normal number, infinite from half the largest one on."""
    form = _FORMATS[x.itemsize]
    less, power = _normal_powers(x.minimum(form.exp_high).maximum(form.zero_below), form)
    return (less + 1.0) * power


def _normal_powers(x: Value, form: _Format) -> tuple[Value, Value]:
    """``exp(r) - 1`` and ``2**n`` for ``x = n * log(2) + r``, where that is a normal number; else 0 or infinity."""
    bits = _Bits(x)
    # With the bias in the rounder, the lowest bits are those of the power of two, from 0 to infinity.
    less, shifted = _reduced(x, form.rounder + form.bias, form)
    return less, bits.as_float(x.builder.shl(bits.of(shifted), bits.constant(form.mantissa_bits)))


def _split(x: Value, form: _Format) -> tuple[Value, Value]:
    """`x` > 0, normal, as ``m * 2**e`` with m in [sqrt(1/2), sqrt(2)): (m, e)."""
    b, bits = x.builder, _Bits(x)
    one = form.bias << form.mantissa_bits
    shifted = b.add(bits.of(x), bits.constant(one - form.sqrt_half_bits))
    exponent = b.sub(b.ashr(shifted, bits.constant(form.mantissa_bits)), bits.constant(form.bias))
    mantissa = b.and_(shifted, bits.constant((1 << form.mantissa_bits) - 1))
    return bits.as_float(b.add(mantissa, bits.constant(form.sqrt_half_bits))), bits.to_float(exponent)


def _log(x: Value) -> Value:
    form = _FORMATS[x.itemsize]
    denormal = x < form.tiny
    m, e = _split(denormal.choose(x * 2.0**form.tiny_scale, x), form)
    e = denormal.choose(e - float(form.tiny_scale), e)
    f = m - 1.0
    s = f / (f + 2.0)
    z = s * s
    half_square = f * f * 0.5
    r = s * (half_square + z * _polynomial(z, _LOG))
    value = e.fma(form.ln2_high, f - (half_square - e.fma(form.ln2_low, r)))
    value = (x >= 0.0).choose(value, float("nan"))
    value = x.equals(0.0).choose(float("-inf"), value)
    return x.equals(float("inf")).choose(float("inf"), value)


def _logistic(x: Value) -> Value:
    return 1.0 / (_exp_normal(-x) + 1.0)


def _tanh(x: Value) -> Value:
    """``t / (t + 2)`` of ``t = exp(2 * abs(x)) - 1``, in which nothing cancels: near 0 it is ``exp(r) - 1`` itself."""
    size = abs(x).minimum(_TANH_ONE[x.itemsize])
    less, power = _normal_powers(size + size, _FORMATS[x.itemsize])
    t = less.fma(power, power - 1.0)
    return (t / (t + 2.0)).call("llvm.copysign", x)


def _bell(u: Value) -> Value:
    """``exp(-u**2 / 2)``, or 0 where that is no normal number, for `u` of at most `_NORMAL_RANGE`'s end.

    As `_exp_normal` of ``u**2`` in place of its half: the constants are halved instead, and nothing has to be bounded.
    """
    form, bits = _FORMATS[u.itemsize], _Bits(u)
    square, rounder = u * u, form.rounder + form.bias
    shifted = square.fma(-0.5 * LOG2_E, rounder)
    n = shifted - rounder
    rest = n.fma(2.0 * form.ln2_low, n.fma(2.0 * form.ln2_high, square))
    power = bits.as_float(u.builder.shl(bits.of(shifted), bits.constant(form.mantissa_bits)))
    return _polynomial(rest, _EXP_OF_HALF) * power


def _normal_tail(x: Value) -> tuple[Value, Value, Value]:
    """``u = abs(x)``, bounded; the standard normal distribution function of `-u`; and ``exp(-u**2 / 2)``.

    One formula for all x, as that of erfc in Schonfelder, "Chebyshev expansions for the error and related functions"
    (1978).
    """
    middle, end = _NORMAL_RANGE[x.itemsize]
    u = abs(x).minimum(end)
    bell = _bell(u)
    return u, bell * _polynomial((u - middle) / (u + middle), _NORMAL), bell


@elementwise
def exp(x):
    """e to the power `x`."""
    return _exp(x)


@elementwise
def exp_normal(x):
    """As `exp`, quicker: 0 where that is no normal number, infinite from half the largest one on."""
    return _exp_normal(x)


@elementwise
def log(x):
    """The natural logarithm: -inf at 0, NaN below."""
    return _log(x)


@elementwise
def logistic(x):
    """``1 / (1 + exp(-x))``."""
    return _logistic(x)


@elementwise
def tanh(x):
    """The hyperbolic tangent."""
    return _tanh(x)


@elementwise
def silu(x):
    """``x * logistic(x)``."""
    return x / (_exp_normal(-x) + 1.0)


@elementwise
def silu_slope(x):
    """The derivative of `silu`."""
    s = _logistic(x)
    return s * (1.0 - s).fma(x, 1.0)


@elementwise
def gelu(x):
    """`x` times the normal distribution function: that of `-abs(x)` is what is left of 1."""
    u, tail, _ = _normal_tail(x)
    return (-u).fma(tail, x.maximum(0.0))


@elementwise
def gelu_slope(x):
    """The derivative of `gelu`."""
    _, tail, bell = _normal_tail(x)
    return (x * ONE_OVER_SQRT_2_PI).fma(bell, (x < 0.0).choose(tail, 1.0 - tail))


def _gelu_inner(x: Value) -> Value:
    """Twice the argument of the tanh in GELU's tanh form: ``(1 + tanh(u / 2)) / 2`` is ``logistic(u)``."""
    return x * (x * x).fma(2.0 * SQRT_2_OVER_PI * GELU_CUBIC, 2.0 * SQRT_2_OVER_PI)


@elementwise
def gelu_tanh(x):
    """GELU with the tanh approximation of the normal distribution function."""
    return x / (_exp_normal(-_gelu_inner(x)) + 1.0)


@elementwise
def gelu_tanh_slope(x):
    """The derivative of `gelu_tanh`."""
    s = _logistic(_gelu_inner(x))
    inner_slope = (x * x).fma(6.0 * SQRT_2_OVER_PI * GELU_CUBIC, 2.0 * SQRT_2_OVER_PI)
    return s * ((1.0 - s) * x).fma(inner_slope, 1.0)
