"""Vector values inside kernels: numbers, tails, and what the hot loop becomes."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from numbacnn.kernels._build import kernel
from numbacnn.kernels._target import target
from numbacnn.kernels.simd import (
    WIDE,
    absolute,
    fma,
    half,
    interleaved,
    lanes,
    load,
    load_first,
    load_like,
    maximum,
    minimum,
    reduce_add,
    reduce_max,
    select,
    splat,
    square_root,
    store,
    store_first,
    swapped_1,
    swapped_2,
    swapped_4,
    wide,
)
from tests.assembly import vector_register

DTYPES = (np.float32, np.float64)
MAX_LANES = 16


@kernel
def copy_first(block, x: "T*", out: "T*", n: "int64"):
    store_first(out, 0, load_first(x, 0, n, 5.0), n)


@kernel
def load_filled(block, x: "T*", out: "T*", n: "int64"):
    store(out, 0, load_first(x, 0, n, -1.5))


@kernel
def arithmetic(block, a: "T[:]", b: "T*", out: "T*"):
    width = lanes(a)
    x, y = load(a, 0), load(b, 0)
    store(out, 0, x + y)
    store(out, width, x - y)
    store(out, 2 * width, x * y)
    store(out, 3 * width, x / y)
    store(out, 4 * width, -x)
    store(out, 5 * width, fma(x, y, 2.0))
    store(out, 6 * width, minimum(x, y))
    store(out, 7 * width, maximum(x, y))
    store(out, 8 * width, absolute(x))
    store(out, 9 * width, square_root(absolute(x)))
    store(out, 10 * width, 1 - x * 0.1 + y / 3)
    x += y
    x *= splat(a, 2.0)
    store(out, 11 * width, x)


@kernel
def comparisons(block, a: "T*", b: "T*", out: "T*"):
    width = lanes(a)
    x, y = load(a, 0), load(b, 0)
    store(out, 0, select(x < y, 1.0, splat(a, 0.0)))
    store(out, width, select(x <= y, 1.0, splat(a, 0.0)))
    store(out, 2 * width, select(x > y, 1.0, splat(a, 0.0)))
    store(out, 3 * width, select(x >= y, 1.0, splat(a, 0.0)))
    store(out, 4 * width, select(x == y, 1.0, splat(a, 0.0)))
    store(out, 5 * width, select(x != y, 1.0, splat(a, 0.0)))


@kernel
def reductions(block, x: "T*", out: "T*", n: "int64"):
    total = splat(x, 0.0)
    top = splat(x, float("-inf"))
    for i in range(0, n, lanes(x)):
        total += load_first(x, i, min(lanes(x), n - i), 0.0)
        top = maximum(top, load_first(x, i, min(lanes(x), n - i), float("-inf")))
    out[0] = reduce_add(total)
    out[1] = reduce_max(top)


@kernel
def swaps(block, x: "T*", out: "T*", n: "int64"):
    values = load_like(wide(x), x, 0)
    store(out, 0, swapped_1(values))
    store(out, n, swapped_2(values))
    store(out, 2 * n, swapped_4(values))


@kernel
def in_turn(block, x: "T*", out: "T*"):
    store(out, 0, interleaved(load_like(half(x), x, 0), load_like(half(x), x, lanes(half(x)))))


@kernel
def scalars(block, x: "T*", y: "T*", out: "T*", n: "int64"):
    for i in range(n):
        out[i] = fma(maximum(x[i], y[i]), 0.1, minimum(x[i], 1.0))


@kernel
def multiply_add(block, x: "T*", out: "T*", n: "int64"):
    for i in range(0, n, lanes(x)):
        store(out, i, fma(load(x, i), load(x, i), load(out, i)))


def width(dtype):
    return target().lanes(np.dtype(dtype).itemsize)


@pytest.mark.parametrize("dtype", DTYPES)
def test_partial_loads_and_stores_touch_only_the_first_lanes(dtype):
    x = np.arange(1, MAX_LANES + 1, dtype=dtype)
    for n in range(width(dtype) + 1):
        out = np.full(MAX_LANES, 99, dtype)
        copy_first(1, x, out, n)
        assert (out[:n] == x[:n]).all()
        assert (out[n:] == 99).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_lanes_beyond_a_partial_load_are_the_fill(dtype):
    x = np.arange(1, MAX_LANES + 1, dtype=dtype)
    for n in range(width(dtype) + 1):
        out = np.zeros(MAX_LANES, dtype)
        load_filled(1, x, out, n)
        assert (out[:n] == x[:n]).all()
        assert (out[n : width(dtype)] == -1.5).all()


@pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect")
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_partial_load_at_the_end_of_a_page_does_not_fault(dtype):
    import ctypes
    import mmap

    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 2 * page)
    pages = np.frombuffer(memory, dtype)
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    second = ctypes.c_void_p(pages.__array_interface__["data"][0] + page)
    assert protect(second, ctypes.c_size_t(page), 0) == 0
    try:
        count = page // np.dtype(dtype).itemsize
        for n in range(1, width(dtype) + 1):
            tail = pages[count - n : count]
            out = np.zeros(MAX_LANES, dtype)
            copy_first(1, tail, out, n)
            copy_first(1, out, tail, n)
    finally:
        protect(second, ctypes.c_size_t(page), mmap.PROT_READ | mmap.PROT_WRITE)


@pytest.mark.parametrize("dtype", DTYPES)
def test_arithmetic(dtype):
    rng = np.random.default_rng(0)
    n = width(dtype)
    a, b = rng.standard_normal((2, n)).astype(dtype)
    out = np.zeros((12, n), dtype)
    arithmetic(1, a, b, out)
    expected = [
        a + b,
        a - b,
        a * b,
        a / b,
        -a,
        a * b + dtype(2),
        np.minimum(a, b),
        np.maximum(a, b),
        np.abs(a),
        np.sqrt(np.abs(a)),
        dtype(1) - a * dtype(0.1) + b / dtype(3),
        (a + b) * dtype(2),
    ]
    np.testing.assert_allclose(out, expected, rtol=4 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_minimum_and_maximum_keep_nan_of_either_operand(dtype):
    n = width(dtype)
    a, b = np.ones(n, dtype), np.zeros(n, dtype)
    a[0], b[1] = np.nan, np.nan
    out = np.zeros((12, n), dtype)
    arithmetic(1, a, b, out)
    assert np.isnan(out[6:8, :2]).all()
    assert not np.isnan(out[6:8, 2:]).any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_comparisons_follow_ieee_for_nan(dtype):
    n = width(dtype)
    values = np.array([0, 1, np.nan, -np.inf, np.inf, -0.0, 2, 3] * 2, dtype)
    for shift in range(8):
        a, b = values[:n].copy(), np.roll(values, shift)[:n].copy()
        out = np.zeros((6, n), dtype)
        comparisons(1, a, b, out)
        assert (out == [a < b, a <= b, a > b, a >= b, a == b, a != b]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_reductions_of_every_length(dtype):
    rng = np.random.default_rng(1)
    for n in range(1, 40):
        x = rng.integers(-50, 50, n).astype(dtype)
        out = np.zeros(2, dtype)
        reductions(1, x, out, n)
        assert out[0] == x.sum()
        assert out[1] == x.max()
    x[n // 2] = np.nan
    reductions(1, x, out, n)
    assert np.isnan(out).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_lanes_are_swapped_with_their_neighbours(dtype):
    n = WIDE * width(dtype)
    out = np.zeros((3, n), dtype)
    swaps(1, np.arange(n, dtype=dtype), out, n)
    for row, distance in zip(out, (1, 2, 4), strict=True):
        np.testing.assert_array_equal(row, np.arange(n) ^ distance)


@pytest.mark.parametrize("dtype", DTYPES)
def test_lanes_in_turn(dtype):
    n = width(dtype)
    out = np.zeros(n, dtype)
    in_turn(1, np.arange(n, dtype=dtype), out)
    np.testing.assert_array_equal(out, np.arange(n).reshape(2, -1).T.ravel())


@pytest.mark.parametrize("dtype", DTYPES)
def test_scalars_keep_their_type(dtype):
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((2, 37)).astype(dtype)
    x[3] = y[5] = np.nan
    out = np.zeros(37, dtype)
    scalars(1, x, y, out, 37)
    expected = np.maximum(x, y) * dtype(0.1) + np.minimum(x, dtype(1))
    np.testing.assert_allclose(out, expected, rtol=4 * np.finfo(dtype).eps, atol=1e-7)


has_fma = pytest.mark.skipif(
    not (target().triple.startswith("x86_64") and target().fma), reason="needs x86-64 with FMA"
)


@has_fma
@pytest.mark.parametrize(("dtype", "suffix"), [("float32", "ps"), ("float64", "pd")])
def test_the_hot_loop_has_full_width_multiply_adds_and_no_spill(dtype, suffix):
    assembly = multiply_add.assembly(dtype)
    register = vector_register()
    assert re.search(rf"vfmadd\d+{suffix}\s.*%{register}", assembly)
    assert not re.search(rf"mov[au]p\w\s+%{register}\d+, -?\d*\(%rsp\)", assembly), "a vector went to the stack"


@has_fma
def test_scalar_functions_are_vectorised_in_float32():
    assembly = scalars.assembly("float32")
    assert re.search(r"vfmadd\d+ps\s.*%[yz]mm", assembly)
    assert "cvtss2sd" not in assembly
    assert "cvtps2pd" not in assembly


def test_the_fallback_without_vector_extensions_gives_the_same_answers():
    """The whole of this file and its sibling again, compiled for the plainest CPU of this architecture."""
    if os.environ.get("NUMBA_CPU_NAME") == "generic":
        return
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    files = [__file__, os.path.join(os.path.dirname(__file__), "test_elementary.py")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-1000:]
