"""The tiles of rows at constant distances: numbers for every shape, nothing written beside them, hot loops."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from numbacnn.kernels import conv_pointwise
from numbacnn.kernels._build import kernel
from numbacnn.kernels.strided_tile import (
    COLUMNS_OF_TWO,
    MOST_COLUMNS,
    SHORTEST_RUNS,
    VECTORS_OF_ROWS,
    WIDE_ROWS,
    WIDE_VECTORS,
    columns_tile,
    few_rows_tile,
    narrow_tile,
    streamed_tile,
    strided_tile,
    wide_tile,
)
from numbacnn.kernels.tile import MAX_ROWS, MIN_GEMM_ROWS, VECTORS, tile_lanes
from tests.kernels.test_tile import DTYPES, GUARD, assert_hot, has_fma, hot_loops, integers

PACKED, IN_PLACE, WIDE, NARROW = range(4)
dtypes = pytest.mark.parametrize("dtype", DTYPES)


@kernel
def run_strided_tile(
    block, x: "T*", w: "T*", out: "T*", start: "T*", kind: "int64", rows: "int64", x_step: "int64", run: "int64",
    ahead: "int64", w_step: "int64", out_step: "int64", held: "int64", lanes: "int64",
):  # fmt: skip
    if kind == WIDE:
        wide_tile(rows, x, x_step, run, ahead, w, out, out_step, start, held, lanes)
    elif kind == NARROW:
        narrow_tile(rows, x, x_step, run, ahead, w, out, out_step, start, held, lanes)
    elif kind == IN_PLACE:
        few_rows_tile(rows, x, x_step, run, w, w_step, out, out_step, start, held, lanes)
    else:
        strided_tile(rows, x, x_step, run, ahead, w, w_step, out, out_step, start, held, lanes)


@kernel
def run_streamed_tile(
    block, x: "T*", w: "T*", out: "T*", start: "T*", rows: "int64", x_step: "int64", run: "int64", w_step: "int64",
    out_step: "int64",
):  # fmt: skip
    streamed_tile(rows, x, x_step, run, w, w_step, out, out_step, start)


@kernel
def run_columns_tile(
    block, x: "T*", w: "T*", start: "T*", out: "T*", columns: "int64", x_step: "int64", run: "int64", ahead: "int64",
    out_row: "int64", out_lane: "int64",
):  # fmt: skip
    columns_tile(columns, x, x_step, run, ahead, w, start, out, out_row, out_lane)


def vector(dtype):
    return tile_lanes(np.dtype(dtype).itemsize) // VECTORS


def check_rows(rows, width, kind, lanes, run, dtype, panels=1):
    """Of packed weights `w` is ``[panel][k][lane]``, with some space between panels."""
    rng = np.random.default_rng(rows + lanes)
    gap = 5 if kind == IN_PLACE else 0
    x, w = integers(rng, (rows, run + 3), dtype), integers(rng, (panels, run * (width + gap) + 7), dtype)
    start, before = integers(rng, panels * width, dtype), integers(rng, (rows, lanes), dtype)
    rows_of_w = w[:, :-7].reshape(panels, run, width + gap)[:, :, :width]
    matrix = rows_of_w.transpose(1, 0, 2).reshape(run, panels * width)[:, :lanes]
    w_step = width + gap if kind == IN_PLACE else w.shape[1]
    for held, ahead in ((0, 0), (3, 1)):
        out = np.full((rows, panels * width + 4), GUARD, dtype)
        out[:, :lanes] = before
        run_strided_tile(1, x, w, out, start, kind, rows, run + 3, run, ahead, w_step, out.shape[1], held, lanes)
        expected = x[:, :run].astype(float) @ matrix + (before if held else start[:lanes])
        np.testing.assert_array_equal(out[:, :lanes], expected)
        out[:, :lanes] = GUARD
        assert (out == GUARD).all(), "written outside the tile"


@dtypes
@pytest.mark.parametrize("rows", range(1, MAX_ROWS + 1))
def test_strided_tile(rows, dtype):
    width = VECTORS * vector(dtype)
    for lanes in range(1, width + 1):
        check_rows(rows, width, PACKED, lanes, 1 + lanes % 9, dtype)
    for lanes in (width + 1, 3 * width - 1, 3 * width):
        check_rows(rows, width, PACKED, lanes, 1 + lanes % 9, dtype, panels=-(-lanes // width))


@dtypes
@pytest.mark.parametrize("rows", range(1, MAX_ROWS + 1))
def test_few_rows_tile(rows, dtype):
    width = (VECTORS if rows >= MIN_GEMM_ROWS else VECTORS_OF_ROWS[rows - 1]) * vector(dtype)
    for lanes in range(1, width + 1):
        check_rows(rows, width, IN_PLACE, lanes, 1 + lanes % 9, dtype)


@dtypes
@pytest.mark.parametrize("rows", range(1, WIDE_ROWS + 1))
def test_wide_tile(rows, dtype):
    width = WIDE_VECTORS * vector(dtype)
    for lanes in range(1, width + 1):
        check_rows(rows, width, WIDE, lanes, 1 + lanes % 9, dtype)


@dtypes
@pytest.mark.parametrize("rows", range(1, MAX_ROWS + 1))
def test_narrow_tile(rows, dtype):
    for lanes in range(1, vector(dtype) + 1):
        check_rows(rows, vector(dtype), NARROW, lanes, 1 + lanes % 9, dtype)


@dtypes
@pytest.mark.parametrize("run", range(1, SHORTEST_RUNS + 1))
def test_streamed_tile(run, dtype):
    width = VECTORS * vector(dtype)
    rng = np.random.default_rng(run)
    for rows in (1, 2, 3, 7, 20):
        x, w, start = integers(rng, (rows, run + 3), dtype), integers(rng, (run, width + 5), dtype), np.arange(width)
        out = np.full((rows + 1, width + 4), GUARD, dtype)
        run_streamed_tile(1, x, w, out, start.astype(dtype), rows, run + 3, run, width + 5, width + 4)
        np.testing.assert_array_equal(out[:rows, :width], x[:, :run].astype(float) @ w[:, :width] + start)
        out[:rows, :width] = GUARD
        assert (out == GUARD).all(), "written outside the tile"


@dtypes
@pytest.mark.parametrize("columns", range(1, MOST_COLUMNS + 1))
def test_columns_tile(columns, dtype):
    """Results in either order; rows apart or, with lines asked for in order, one after the other."""
    rows = vector(dtype) * (2 if columns <= COLUMNS_OF_TWO else 1)
    rng = np.random.default_rng(columns)
    for run, gap, (out_row, out_lane) in itertools.product((1, 2, 16, 33), (0, 2), ((1, rows), (columns + 1, 1))):
        x, w = integers(rng, (rows, run + gap), dtype), integers(rng, (run, columns), dtype)
        start, out = integers(rng, (columns, rows), dtype), np.full(rows * (columns + 1) + 1, GUARD, dtype)
        run_columns_tile(1, x, w, start, out, columns, run + gap, run, 2 * rows * (run + gap), out_row, out_lane)
        expected = np.full_like(out, GUARD)
        places = out_row * np.arange(rows) + out_lane * np.arange(columns)[:, None]
        expected[places] = (x[:, :run].astype(float) @ w).T + start
        np.testing.assert_array_equal(out, expected)


@has_fma
@dtypes
def test_hot_loops_live_in_registers(dtype):
    loops = hot_loops(conv_pointwise.conv_pointwise.assembly(dtype), MIN_GEMM_ROWS * VECTORS)
    full = [body for body in loops if len(re.findall("vfmadd", body)) % (MAX_ROWS * VECTORS) == 0]
    assert full
    for body in loops:
        if "vunpck" not in body and "vshuf" not in body:
            assert_hot(body, dtype)
