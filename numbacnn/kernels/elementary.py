"""Elementary functions of scalars and vectors: exp, log, tanh, the logistic and error functions.

Branch-free, so that LLVM vectorises a loop that calls them; within about 2 ulp, and right for infinities, NaN,
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
SQRT_HALF = 0.7071067811865476
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
    sqrt_half_bits: int
    tiny: float  # smallest normal number
    tiny_scale: int


_FORMATS = {
    4: _Format(
        23, 127, 12582912.0, 0.693145751953125, 1.4286067653e-06, -104.0, 89.0, 0x3F3504F3, 1.1754943508222875e-38, 25
    ),
    8: _Format(
        52,
        1023,
        6755399441055744.0,
        6.93147180369123816490e-01,
        1.90821492927058770002e-10,
        -746.0,
        710.0,
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
# (tanh(x) - x) / x**3 in powers of x**2, for |x| <= _TANH_SMALL
_TANH_SMALL = 0.625
_TANH = {
    4: (-0.33333284, 0.133315, -0.053744268, 0.020653147, -0.005719907),
    8: (
        -0.3333333333333288,
        0.13333333333265107,
        -0.053968253932565456,
        0.021869487603684467,
        -0.008863221339693075,
        0.0035919917217428743,
        -0.0014549711942704715,
        0.0005863546825536345,
        -0.00022863742726665588,
        7.722369002804142e-05,
        -1.6109647235955753e-05,
    ),
}
# erf(x) / x - 1 in powers of x**2, for |x| <= 1
_ERF = {
    4: (0.12837917, -0.37612626, 0.112835996, -0.026854428, 0.0051895054, -0.00080205954, 7.8883546e-05),
    8: (
        0.12837916709551256,
        -0.3761263890318355,
        0.11283791670945231,
        -0.02686617064327291,
        0.005223977607398376,
        -0.0008548325988581832,
        0.00012055295289481475,
        -1.492474410734472e-05,
        1.6447511254770074e-06,
        -1.6209129709405018e-07,
        1.3722787997886972e-08,
        -7.800856870185169e-10,
    ),
}
# log(erfc(t)) + t**2 for 1 <= t <= end, in powers of u = (t - middle) / half; beyond the end erf rounds to 1
_ERFC_RANGE = {4: (2.5, 1.5, 4.0), 8: (3.5, 2.5, 6.0)}
_ERFC = {
    4: (-1.556818, -0.5290425, 0.12625195, -0.03618449, 0.012428895, -0.001192969, 0.0021116459),
    8: (
        -1.8624374021419972,
        -0.6652489706597916,
        0.20779340967728158,
        -0.08165092307402258,
        0.03412817959718905,
        -0.014385631008488652,
        0.005952925237875958,
        -0.0023614509837145145,
        0.0009516091551890239,
        -0.00019926108883367742,
        0.00011075302856033726,
        -0.0003937535812836858,
        -0.0009746878071921636,
        -0.0013317911408989227,
        -0.0011564534937515312,
        -0.000628220550067093,
        -0.00020198105102505688,
        -2.8135777520916324e-05,
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


def _times_power_of_two(x: Value, exponent: Any, form: _Format) -> Value:
    """``x * 2**exponent`` for an integer exponent, in two factors so that neither leaves the format."""
    b, bits = x.builder, _Bits(x)
    half = b.ashr(exponent, bits.constant(1))
    for part in (half, b.sub(exponent, half)):
        x = x * bits.as_float(b.shl(b.add(part, bits.constant(form.bias)), bits.constant(form.mantissa_bits)))
    return x


def _exp(x: Value) -> Value:
    form = _FORMATS[x.itemsize]
    bits = _Bits(x)
    x = x.minimum(form.exp_high).maximum(form.exp_low)
    shifted = x.fma(LOG2_E, form.rounder)
    n = shifted - form.rounder
    exponent = x.builder.sub(bits.of(shifted), bits.of(x.like(form.rounder)))
    r = n.fma(-form.ln2_low, n.fma(-form.ln2_high, x))
    return _times_power_of_two((r * r).fma(_polynomial(r, _EXP), r) + 1.0, exponent, form)


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
    return 1.0 / (_exp(-x) + 1.0)


def _tanh(x: Value) -> Value:
    size = abs(x)
    square = x * x
    small = (square * x).fma(_polynomial(square, _TANH), x)
    large = 1.0 - 2.0 / (_exp(size + size) + 1.0)
    return (size < _TANH_SMALL).choose(small, large).call("llvm.copysign", x)


def _erfc_tail(t: Value) -> Value:
    """erfc(t) for t >= 1, to the precision of a number near 1; 0 beyond the table."""
    middle, half, end = _ERFC_RANGE[t.itemsize]
    u = (t.minimum(end) - middle) * (1.0 / half)
    return (t > end).choose(0.0, _exp((-t).fma(t, _polynomial(u, _ERFC))))


def _erf(x: Value) -> Value:
    size = abs(x)
    small = x.fma(_polynomial(x * x, _ERF), x)
    large = (1.0 - _erfc_tail(size)).call("llvm.copysign", x)
    return (size < 1.0).choose(small, large)


def _normal_cdf(x: Value) -> Value:
    """The standard normal distribution function; the lower tail without cancellation."""
    t = x * SQRT_HALF
    size = abs(t)
    small = t.fma(_polynomial(t * t, _ERF), t).fma(0.5, 0.5)
    tail = _erfc_tail(size) * 0.5
    return (size < 1.0).choose(small, (x < 0.0).choose(tail, 1.0 - tail))


@elementwise
def exp(x):
    """e to the power `x`."""
    return _exp(x)


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
def erf(x):
    """The error function."""
    return _erf(x)


@elementwise
def silu(x):
    """``x * logistic(x)``."""
    return x / (_exp(-x) + 1.0)


@elementwise
def silu_slope(x):
    """The derivative of `silu`."""
    s = _logistic(x)
    return s * (1.0 - s).fma(x, 1.0)


@elementwise
def gelu(x):
    """`x` times the normal distribution function."""
    return x * _normal_cdf(x)


@elementwise
def gelu_slope(x):
    """The derivative of `gelu`."""
    density = _exp(x * x * -0.5) * ONE_OVER_SQRT_2_PI
    return x.fma(density, _normal_cdf(x))


def _gelu_inner(x: Value) -> Value:
    """Twice the argument of the tanh in GELU's tanh form: ``(1 + tanh(u / 2)) / 2`` is ``logistic(u)``."""
    return x * (x * x).fma(2.0 * SQRT_2_OVER_PI * GELU_CUBIC, 2.0 * SQRT_2_OVER_PI)


@elementwise
def gelu_tanh(x):
    """GELU with the tanh approximation of the normal distribution function."""
    return x / (_exp(-_gelu_inner(x)) + 1.0)


@elementwise
def gelu_tanh_slope(x):
    """The derivative of `gelu_tanh`."""
    s = _logistic(_gelu_inner(x))
    inner_slope = (x * x).fma(6.0 * SQRT_2_OVER_PI * GELU_CUBIC, 2.0 * SQRT_2_OVER_PI)
    return s * ((1.0 - s) * x).fma(inner_slope, 1.0)
