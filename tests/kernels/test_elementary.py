"""Elementary functions: accuracy against extended precision, special values, and vectorisation."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from numbacnn.kernels import elementary
from numbacnn.kernels._build import kernel
from numbacnn.kernels._target import target
from numbacnn.kernels.simd import lanes, load, store

DTYPES = (np.float32, np.float64)


@kernel
def exp(block, x: "T*", out: "T*", n: "int64"):
    for i in range(n):
        out[i] = elementary.exp(x[i])


@kernel
def exp_vector(block, x: "T*", out: "T*", n: "int64"):
    for i in range(0, n, lanes(x)):
        store(out, i, elementary.exp(load(x, i)))


@kernel
def log(block, x: "T*", out: "T*", n: "int64"):
    for i in range(n):
        out[i] = elementary.log(x[i])


@kernel
def tanh(block, x: "T*", out: "T*", n: "int64"):
    for i in range(n):
        out[i] = elementary.tanh(x[i])


@kernel
def logistic(block, x: "T*", out: "T*", n: "int64"):
    for i in range(n):
        out[i] = elementary.logistic(x[i])


@kernel
def exp_normal(block, x: "T*", out: "T*", n: "int64"):
    for i in range(n):
        out[i] = elementary.exp_normal(x[i])


@kernel
def gelu(block, x: "T*", out: "T*", n: "int64"):
    for i in range(n):
        out[i] = elementary.gelu(x[i])


@kernel
def gelu_slope(block, x: "T*", out: "T*", n: "int64"):
    for i in range(n):
        out[i] = elementary.gelu_slope(x[i])


def run(function, x):
    out = np.full_like(x, 77)
    function(1, x, out, x.size)
    return out


def samples(dtype, low, high, n=50_000):
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(low, high, n), rng.uniform(-2, 2, n), rng.standard_normal(n) * 1e-3])
    return x.astype(dtype)


def worst_ulps(got, exact):
    """Largest error in units of the last place of the exact result, for results that are normal numbers."""
    exact = np.asarray(exact, np.longdouble)
    normal = np.abs(exact) >= np.finfo(got.dtype).tiny
    ulp = np.spacing(np.abs(exact[normal]).astype(got.dtype)).astype(np.longdouble)
    return float(np.max(np.abs(got[normal].astype(np.longdouble) - exact[normal]) / ulp))


@pytest.mark.parametrize("dtype", DTYPES)
def test_exp(dtype):
    limit = 87 if dtype == np.float32 else 708
    x = samples(dtype, -limit, limit)
    assert worst_ulps(run(exp, x), np.exp(x.astype(np.longdouble))) < 1.1


@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_at_the_ends_of_the_range(dtype):
    f32 = dtype == np.float32
    x = np.array([np.inf, -np.inf, np.nan, 0, 89 if f32 else 710, -104 if f32 else -746, 1e30, -1e30], dtype)
    np.testing.assert_array_equal(run(exp, x), np.array([np.inf, 0, np.nan, 1, np.inf, 0, np.inf, 0], dtype))
    gradual = np.linspace(-103, -87.5, 200, dtype=dtype) if f32 else np.linspace(-745, -708.5, 200)
    spacing = np.finfo(dtype).smallest_subnormal
    with np.errstate(under="ignore"):
        exact = np.exp(gradual.astype(np.longdouble))
    assert np.all(np.abs(run(exp, gradual) - exact) <= 0.51 * spacing + 1e-6 * exact)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scalars_and_vectors_agree(dtype):
    x = np.linspace(-20, 20, 1024, dtype=dtype)
    np.testing.assert_array_equal(run(exp, x), run(exp_vector, x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_log(dtype):
    rng = np.random.default_rng(1)
    span = 37 if dtype == np.float32 else 300
    x = np.concatenate([10 ** rng.uniform(-span, span, 50_000), rng.uniform(0.5, 2, 50_000)]).astype(dtype)
    assert worst_ulps(run(log, x), np.log(x.astype(np.longdouble))) < 1.1
    denormal = np.array([1e-40, 1e-44] if dtype == np.float32 else [1e-310, 5e-324], dtype)
    np.testing.assert_allclose(run(log, denormal), np.log(denormal.astype(np.longdouble)).astype(dtype), rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_of_special_values(dtype):
    x = np.array([np.inf, 1, 0, -0.0, -1, -np.inf, np.nan], dtype)
    expected = np.array([np.inf, 0, -np.inf, -np.inf, np.nan, np.nan, np.nan], dtype)
    np.testing.assert_array_equal(run(log, x), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tanh(dtype):
    x = samples(dtype, -25, 25)
    assert worst_ulps(run(tanh, x), np.tanh(x.astype(np.longdouble))) < 3
    special = np.array([np.inf, -np.inf, np.nan, 0, -0.0, 1e4, -1e4], dtype)
    got = run(tanh, special)
    np.testing.assert_array_equal(got, np.array([1, -1, np.nan, 0, 0, 1, -1], dtype))
    assert np.signbit(got[4])


@pytest.mark.parametrize("dtype", DTYPES)
def test_logistic(dtype):
    x = samples(dtype, -80, 80)
    assert worst_ulps(run(logistic, x), 1 / (1 + np.exp(-x.astype(np.longdouble)))) < 2.5
    special = np.array([np.inf, -np.inf, np.nan, 0, 1e4, -1e4], dtype)
    np.testing.assert_array_equal(run(logistic, special), np.array([1, 0, np.nan, 0.5, 1, 0], dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_of_normal_results(dtype):
    limit = 87 if dtype == np.float32 else 708
    x = samples(dtype, -limit, limit)
    assert worst_ulps(run(exp_normal, x), np.exp(x.astype(np.longdouble))) < 1.1
    f32 = dtype == np.float32
    special = np.array([np.inf, -np.inf, np.nan, 0, 89 if f32 else 710, -88 if f32 else -709, 1e30, -1e30], dtype)
    np.testing.assert_array_equal(run(exp_normal, special), np.array([np.inf, 0, np.nan, 1, np.inf, 0, np.inf, 0]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_gelu(dtype):
    x = np.concatenate([samples(dtype, -9, 9, 2000), samples(dtype, -40, 40, 500)])
    precise = [float(v) for v in x]
    distribution = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in precise])
    density = np.array([math.exp(-v * v / 2) / math.sqrt(2 * math.pi) for v in precise])
    # The square of x is rounded before it is made a power, here and in the reference.
    tail = 1 + x.astype(np.float64) ** 2 / 2
    eps = np.finfo(dtype).eps
    assert np.all(np.abs(run(gelu, x) - x * distribution) <= 5 * eps * tail * np.abs(x) * distribution + 1e-37)
    size = distribution + np.abs(x) * density
    assert np.all(np.abs(run(gelu_slope, x) - (distribution + x * density)) <= 5 * eps * tail * size + 1e-37)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gelu_of_special_values(dtype):
    x = np.array([np.inf, np.nan, 0, 1e30, -1e30, -39, -np.inf], dtype)
    np.testing.assert_array_equal(run(gelu, x), np.array([np.inf, np.nan, 0, 1e30, 0, 0, 0], dtype))


@pytest.mark.skipif(not (target().triple.startswith("x86_64") and target().fma), reason="needs x86-64 with FMA")
@pytest.mark.parametrize("function", [exp, log, tanh, logistic, gelu], ids=lambda f: f.function.__name__)
def test_loops_over_scalars_are_vectorised(function):
    assembly = function.assembly("float32")
    assert re.search(r"vfmadd\d+ps\s.*%[yz]mm", assembly)
    assert not re.search(r"\$(exp|log|tanh)f?\b", assembly), "a library function per element"
