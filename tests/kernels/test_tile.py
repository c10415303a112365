"""The register tiles: numbers for every shape of tile, nothing written beside them, and what their loops become."""

from __future__ import annotations

import re

import numpy as np
import pytest

from numbacnn.kernels import (
    chain_weight_tile,
    conv_gemm,
    conv_weight,
    conv_weight_chains,
    conv_weight_groups,
    conv_weight_in_place,
    conv_weight_slices,
    tap_tile,
)
from numbacnn.kernels._build import kernel
from numbacnn.kernels._target import target
from numbacnn.kernels.group_tile import GROUP_ROWS, GROUP_TAPS, ROWS, group_outer_tile, pair_outer_tile, pairs_fit
from numbacnn.kernels.tile import (
    MAX_LANES,
    MAX_ROWS,
    MIN_GEMM_ROWS,
    MIN_PAIRED_ROWS,
    VECTORS,
    dot_tile,
    gemm_panels_tile,
    gemm_tile,
    listed_outer_tile,
    outer_tile,
    packed_outer_tile,
    paired_outer_tile,
    tile_lanes,
)
from tests.assembly import vector_register

DTYPES = ("float32", "float64")
GUARD = 77.0


@kernel
def run_gemm_tile(
    block, table: "int64*", bias: "T*", rows: "int64", wide: "int64", taps: "int64", x_offset: "int64", run: "int64",
    w_offset: "int64", w_width: "int64", out_offset: "int64", accumulate: "int64", lanes: "int64",
):  # fmt: skip
    gemm_tile(rows, wide != 0, table, taps, x_offset, run, w_offset, w_width, out_offset, bias, accumulate, lanes)


@kernel
def run_gemm_panels_tile(
    block, table: "int64*", bias: "T*", rows: "int64", wide: "int64", taps: "int64", run: "int64", w_width: "int64",
    w_panel: "int64", accumulate: "int64", lanes: "int64",
):  # fmt: skip
    gemm_panels_tile(rows, wide != 0, table, taps, 0, run, 0, w_width, w_panel, 0, bias, accumulate, lanes)


@kernel
def run_full_gemm_tile(
    block, table: "int64*", bias: "T*", taps: "int64", run: "int64", w_width: "int64", lanes: "int64"
):
    gemm_tile(MAX_ROWS, True, table, taps, 0, run, 0, w_width, 0, bias, 0, lanes)


@kernel
def run_dot_tile(
    block, table: "int64*", bias: "T*", rows: "int64", valid: "int64", lanes: "int64", taps: "int64",
    x_offset: "int64", run: "int64", w_offset: "int64", w_stride: "int64", out_offset: "int64", accumulate: "int64",
):  # fmt: skip
    dot_tile(rows, valid, lanes, table, taps, x_offset, run, w_offset, w_stride, out_offset, bias, accumulate)


@kernel
def run_outer_tile(
    block, pointers: "int64*", y: "T*", out: "T*", rows: "int64", wide: "int64", count: "int64", x_offset: "int64",
    y_stride: "int64", out_stride: "int64",
):  # fmt: skip
    outer_tile(rows, wide, pointers, count, x_offset, y, y_stride, out, out_stride)


@kernel
def run_listed_outer_tile(
    block, x: "T*", pointers: "int64*", packed: "T*", out: "T*", rows: "int64", pitch: "int64", y_offset: "int64",
    count: "int64", fresh: "int64", out_stride: "int64",
):  # fmt: skip
    listed_outer_tile(rows, x, pitch, pointers, y_offset, packed, count, fresh, out, out_stride)


@kernel
def run_packed_outer_tile(
    block, x: "T*", packed: "T*", out: "T*", rows: "int64", pitch: "int64", count: "int64", fresh: "int64",
    out_stride: "int64", soon: "int64*",
):  # fmt: skip
    packed_outer_tile(rows, x, pitch, packed, count, fresh, out, out_stride, soon, 1, 0)


@kernel
def run_group_outer_tile(
    block, pointers: "int64*", y: "T*", out: "T*", rows: "int64", taps: "int64", step: "int64", count: "int64",
    x_offset: "int64", y_stride: "int64", out_tap: "int64", out_row: "int64",
):  # fmt: skip
    group_outer_tile(rows, taps, pointers, step, count, x_offset, y, y_stride, out, out_tap, out_row)


@kernel
def run_pair_outer_tile(
    block, pointers: "int64*", y: "T*", out: "T*", rows: "int64", taps: "int64", step: "int64", count: "int64",
    x_offset: "int64", y_stride: "int64", out_tap: "int64", out_row: "int64",
):  # fmt: skip
    pair_outer_tile(rows, taps, pointers, step, count, x_offset, y, y_stride, out, out_tap, out_row)


@kernel
def run_paired_outer_tile(
    block, pointers: "int64*", y: "T*", out: "T*", rows: "int64", count: "int64", x_offset: "int64", pair: "int64",
    y_stride: "int64", out_stride: "int64",
):  # fmt: skip
    paired_outer_tile(rows, pointers, count, x_offset, pair, y, y_stride, out, out_stride)


@kernel
def run_full_listed_tile(
    block, x: "T*", pointers: "int64*", packed: "T*", out: "T*", count: "int64", pitch: "int64", out_stride: "int64"
):
    listed_outer_tile(MAX_ROWS, x, pitch, pointers, 0, packed, count, 0, out, out_stride)


@kernel
def run_full_packed_tile(
    block, x: "T*", packed: "T*", out: "T*", count: "int64", pitch: "int64", out_stride: "int64", soon: "int64*"
):
    packed_outer_tile(MAX_ROWS, x, pitch, packed, count, 0, out, out_stride, soon, 1, 0)


@kernel
def run_full_outer_tile(
    block, pointers: "int64*", y: "T*", out: "T*", count: "int64", y_stride: "int64", out_stride: "int64"
):
    outer_tile(MAX_ROWS, True, pointers, count, 0, y, y_stride, out, out_stride)


def integers(rng, shape, dtype):
    return rng.integers(-4, 5, shape).astype(dtype)


def addresses(array):
    """Address of every row of a 2-D array, or of every vector along the last axis of a larger one."""
    flat = array.reshape(-1, array.shape[-1])
    return flat.ctypes.data + flat.strides[0] * np.arange(len(flat))


class GemmProblem:
    """Inputs of a tile with room around everything: rows lie apart, and offsets lead into their middle."""

    X_OFFSET, W_OFFSET, OUT_OFFSET = 3, 5, 2

    def __init__(self, dtype, rows, wide, taps, run, seed=0):
        rng = np.random.default_rng(seed)
        self.rows, self.wide, self.taps, self.run = rows, wide, taps, run
        self.width = tile_lanes(np.dtype(dtype).itemsize) // (1 if wide else VECTORS)
        self.w_width = self.width + 3  # rows of weights need not be packed tightly
        self.x = integers(rng, (taps, rows, self.X_OFFSET + run), dtype)
        self.w = integers(rng, (taps, self.W_OFFSET + run * self.w_width), dtype)
        self.bias = integers(rng, self.width, dtype)
        self.before = integers(rng, (rows, self.width), dtype)
        self.out = np.full((rows, self.OUT_OFFSET + self.width + 4), GUARD, dtype)
        self.inside = self.out[:, self.OUT_OFFSET : self.OUT_OFFSET + self.width]

    def table(self):
        per_tap = [np.append(addresses(x), w) for x, w in zip(self.x, addresses(self.w), strict=True)]
        return np.concatenate([addresses(self.out), *per_tap]).astype(np.int64)

    def expected(self, accumulate):
        start = self.before if accumulate else self.bias
        total = start + np.zeros((self.rows, self.width))
        for t in range(self.taps):
            weights = self.w[t, self.W_OFFSET :].reshape(self.run, self.w_width)[:, : self.width]
            total = total + self.x[t, :, self.X_OFFSET :].astype(float) @ weights.astype(float)
        return total

    def check(self, lanes, accumulate):
        self.out[...] = GUARD
        self.inside[:, :lanes] = self.before[:, :lanes]
        run_gemm_tile(
            1, self.table(), self.bias, self.rows, int(self.wide), self.taps, self.X_OFFSET, self.run,
            self.W_OFFSET, self.w_width, self.OUT_OFFSET, accumulate, lanes,
        )  # fmt: skip
        np.testing.assert_array_equal(self.inside[:, :lanes], self.expected(accumulate)[:, :lanes])
        self.inside[:, :lanes] = GUARD
        assert (self.out == GUARD).all(), "written outside the tile"


shapes = pytest.mark.parametrize("rows", range(MIN_GEMM_ROWS, MAX_ROWS + 1))
widths = pytest.mark.parametrize("wide", [True, False], ids=["two vectors", "one vector"])
dtypes = pytest.mark.parametrize("dtype", DTYPES)


@dtypes
@widths
@shapes
def test_gemm_tile_of_every_number_of_lanes(rows, wide, dtype):
    problem = GemmProblem(dtype, rows, wide, taps=2, run=3)
    for lanes in range(1, problem.width + 1):
        for accumulate in (0, 1, 7):
            problem.check(lanes, accumulate)


@dtypes
@widths
@shapes
def test_gemm_tile_of_every_length_of_sum(rows, wide, dtype):
    for taps in range(4):
        for run in range(1, 10):
            problem = GemmProblem(dtype, rows, wide, taps, run, seed=run)
            for lanes in {1, problem.width - 1, problem.width}:
                problem.check(lanes, taps % 2)


@dtypes
@widths
@shapes
def test_gemm_panels_tile(rows, wide, dtype):
    """Each panel gets what a tile of its own gets, and nothing else is written."""
    taps, run, panels = 2, 5, 3
    rng = np.random.default_rng(rows)
    width = tile_lanes(np.dtype(dtype).itemsize) // (1 if wide else VECTORS)
    x, w = integers(rng, (taps, rows, run), dtype), integers(rng, (taps, panels, run * width + 7), dtype)
    bias, before = integers(rng, panels * width, dtype), integers(rng, (rows, panels * width), dtype)
    weights = w[:, :, : run * width].reshape(taps, panels, run, width).transpose(0, 2, 1, 3)
    weights = weights.reshape(taps * run, panels * width)
    for lanes in (1, width, width + 1, panels * width - 1, panels * width):
        for accumulate in (0, 1):
            out = np.full((rows, panels * width + 4), GUARD, dtype)
            out[:, :lanes] = before[:, :lanes]
            per_tap = [np.append(addresses(x[t]), w[t].ctypes.data) for t in range(taps)]
            table = np.concatenate([addresses(out), *per_tap]).astype(np.int64)
            run_gemm_panels_tile(1, table, bias, rows, wide, taps, run, width, w.shape[2], accumulate, lanes)
            start = before if accumulate else bias
            expected = start + x.transpose(1, 0, 2).reshape(rows, -1).astype(float) @ weights
            np.testing.assert_array_equal(out[:, :lanes], expected[:, :lanes])
            out[:, :lanes] = GUARD
            assert (out == GUARD).all(), "written outside the tile"


@dtypes
def test_gemm_tile_may_name_a_row_twice(dtype):
    """As callers with fewer rows than the smallest tile do."""
    problem = GemmProblem(dtype, MIN_GEMM_ROWS, True, taps=2, run=5)
    problem.x[:, 1:] = problem.x[:, :1]
    expected = problem.expected(0)[0]
    table = problem.table()
    table[:MIN_GEMM_ROWS] = table[0]
    run_gemm_tile(
        1, table, problem.bias, MIN_GEMM_ROWS, 1, 2, 3, 5, 5, problem.w_width, 2, 0, problem.width
    )  # fmt: skip
    np.testing.assert_array_equal(problem.inside[0], expected)
    assert (problem.out[1:] == GUARD).all()


@dtypes
def test_gemm_tile_propagates_nan_and_ignores_lanes_that_are_not_there(dtype):
    problem = GemmProblem(dtype, MAX_ROWS, True, taps=1, run=2)
    problem.w[0, problem.W_OFFSET + problem.width - 1] = np.nan
    problem.check(problem.width - 1, 1)
    problem.x[0, 2, problem.X_OFFSET] = np.nan
    with np.errstate(invalid="ignore"):
        expected = problem.expected(0)
    run_gemm_tile(
        1, problem.table(), problem.bias, MAX_ROWS, 1, 1, 3, 2, 5, problem.w_width, 2, 0, problem.width
    )  # fmt: skip
    np.testing.assert_array_equal(np.isnan(problem.inside), np.isnan(expected))


@dtypes
@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("valid", range(1, MAX_ROWS + 1))
def test_dot_tile(valid, lanes, dtype):
    rng = np.random.default_rng(valid)
    rows, widest = max(valid, MIN_GEMM_ROWS), tile_lanes(np.dtype(dtype).itemsize)
    for taps, run in [(0, 1), (1, 1), (3, 2), *((1 + k % 3, k) for k in range(3, 2 * widest + 3))]:
        for accumulate in (0, 5):
            x = integers(rng, (taps, rows, 3 + run), dtype)
            w, bias = integers(rng, (taps, 2 + lanes * (run + 4)), dtype), integers(rng, lanes, dtype)
            out = np.full((rows, lanes + 3), GUARD, dtype)
            before = integers(rng, (valid, lanes), dtype)
            out[:valid, 1 : 1 + lanes] = before
            per_tap = [np.append(addresses(a), b) for a, b in zip(x, addresses(w), strict=True)]
            names = addresses(out)
            names[valid:] = names[valid - 1]  # as callers with fewer rows than the smallest tile do
            table = np.concatenate([names, *per_tap]).astype(np.int64)
            run_dot_tile(1, table, bias, rows, valid, lanes, taps, 3, run, 2, run + 4, 1, accumulate)
            weights = w[:, 2:].reshape(taps, lanes, run + 4)[:, :, :run].astype(float)
            products = np.einsum("trk,tjk->rj", x[:, :valid, 3:].astype(float), weights)
            np.testing.assert_array_equal(out[:valid, 1 : 1 + lanes], (before if accumulate else bias) + products)
            out[:valid, 1 : 1 + lanes] = GUARD
            assert (out == GUARD).all(), "written outside the tile"


@dtypes
@pytest.mark.parametrize("wide", [0, 1])
@pytest.mark.parametrize("rows", range(1, MAX_ROWS + 1))
def test_outer_tile(rows, wide, dtype):
    rng = np.random.default_rng(rows)
    width = tile_lanes(np.dtype(dtype).itemsize) * (1 + wide) // 2
    for count in (0, 1, 2, 3, 9):
        x, y = integers(rng, (max(count, 1), 4 + rows), dtype), integers(rng, (max(count, 1), width + 3), dtype)
        out = np.full((rows + 1, width + 5), GUARD, dtype)
        before = integers(rng, (rows, width), dtype)
        out[:rows, :width] = before
        run_outer_tile(1, addresses(x), y, out, rows, wide, count, 4, width + 3, width + 5)
        products = x[:count, 4:].astype(float).T @ y[:count, :width].astype(float)
        np.testing.assert_array_equal(out[:rows, :width], before + products)
        assert (out[:, width:] == GUARD).all()
        assert (out[rows] == GUARD).all()


@dtypes
@pytest.mark.parametrize("fresh", [0, 1])
@pytest.mark.parametrize("rows", range(1, MAX_ROWS + 1))
def test_outer_tiles_of_copied_rows(rows, fresh, dtype):
    rng = np.random.default_rng(rows)
    width = tile_lanes(np.dtype(dtype).itemsize)
    for count in (0, 1, 2, 3, 9):
        x, y = integers(rng, (max(count, 1), MAX_ROWS + 2), dtype), integers(rng, (max(count, 1), width + 3), dtype)
        before = integers(rng, (rows, width), dtype)
        listed, packed = (np.full((rows + 1, width + 5), GUARD, dtype) for _ in range(2))
        listed[:rows, :width] = packed[:rows, :width] = before
        copy = np.full((max(count, 1) + 1, width), GUARD, dtype)
        run_listed_outer_tile(1, x, addresses(y), copy, listed, rows, MAX_ROWS + 2, 3, count, fresh, width + 5)
        np.testing.assert_array_equal(copy[:count], y[:count, 3:])
        assert (copy[count:] == GUARD).all()
        run_packed_outer_tile(1, x, copy, packed, rows, MAX_ROWS + 2, count, fresh, width + 5, addresses(y))
        products = x[:count, :rows].astype(float).T @ y[:count, 3:].astype(float)
        for out in (listed, packed):
            np.testing.assert_array_equal(out[:rows, :width], (0 if fresh else before) + products)
            assert (out[:, width:] == GUARD).all()
            assert (out[rows] == GUARD).all()


@dtypes
@pytest.mark.parametrize("rows", range(MIN_PAIRED_ROWS, MAX_ROWS + 1))
def test_paired_outer_tile(rows, dtype):
    rng = np.random.default_rng(rows)
    width = tile_lanes(np.dtype(dtype).itemsize)
    for count, pair in ((0, 9), (1, 7), (2, 6), (9, 8)):
        x, y = integers(rng, (max(count, 1), 4 + pair + rows), dtype), integers(rng, (max(count, 1), width + 3), dtype)
        out = np.full((rows + 1, width + 5), GUARD, dtype)
        before = integers(rng, (rows, width), dtype)
        out[:rows, :width] = before
        run_paired_outer_tile(1, addresses(x), y, out, rows, count, 4, pair, width + 3, width + 5)
        for first, lanes in ((4, slice(0, width // 2)), (4 + pair, slice(width // 2, width))):
            products = x[:count, first : first + rows].astype(float).T @ y[:count, lanes].astype(float)
            np.testing.assert_array_equal(out[:rows, lanes], before[:, lanes] + products)
        assert (out[:, width:] == GUARD).all()
        assert (out[rows] == GUARD).all()


@dtypes
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("taps", range(1, GROUP_TAPS + 1))
def test_group_outer_tile(taps, rows, dtype):
    rng = np.random.default_rng(taps)
    lanes = tile_lanes(np.dtype(dtype).itemsize) // VECTORS
    for count in (0, 1, 2, 9):
        x, y = integers(rng, (taps, count + 1, 3 + lanes), dtype), integers(rng, (count + 1, rows + 2), dtype)
        out = np.full((taps, rows + 1, lanes + 1), GUARD, dtype)
        before = integers(rng, (taps, rows, lanes), dtype)
        out[:, :rows, :lanes] = before
        pointers = np.concatenate([addresses(of_tap) for of_tap in x])
        strides = rows + 2, (rows + 1) * (lanes + 1), lanes + 1
        run_group_outer_tile(1, pointers, y, out, rows, taps, count + 1, count, 3, *strides)
        products = np.einsum("tpi,pc->tci", x[:, :count, 3:].astype(float), y[:count, :rows].astype(float))
        np.testing.assert_array_equal(out[:, :rows, :lanes], before + products)
        assert (out[:, :, lanes:] == GUARD).all()
        assert (out[:, rows:] == GUARD).all()


@dtypes
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("taps", range(1, GROUP_TAPS + 1))
def test_pair_outer_tile(taps, rows, dtype):
    rng = np.random.default_rng(taps)
    lanes = target().lanes(np.dtype(dtype).itemsize)
    if not pairs_fit(lanes):
        pytest.skip("too few registers, or too short vectors")
    for count in (0, 1, 2, 9):
        x, y = integers(rng, (taps, count + 1, 3 + lanes), dtype), integers(rng, (count + 1, rows + 2, 2), dtype)
        out = np.full((taps, rows + 1, lanes + 1), GUARD, dtype)
        before = integers(rng, (taps, rows, lanes), dtype)
        out[:, :rows, :lanes] = before
        pointers = np.concatenate([addresses(of_tap) for of_tap in x])
        strides = 2 * (rows + 2), (rows + 1) * (lanes + 1), lanes + 1
        run_pair_outer_tile(1, pointers, y, out, rows, taps, count + 1, count, 3, *strides)
        halves = x[:, :count, 3:].reshape(taps, count, 2, lanes // 2)
        products = np.einsum("tpki,pck->tcki", halves.astype(float), y[:count, :rows].astype(float))
        np.testing.assert_array_equal(out[:, :rows, :lanes], before + products.reshape(before.shape))
        assert (out[:, :, lanes:] == GUARD).all()
        assert (out[:, rows:] == GUARD).all()


def test_width_of_tiles():
    assert tile_lanes(4) == 2 * tile_lanes(8) == VECTORS * target().vector_bytes // 4 <= MAX_LANES


# ---------------------------------------------------------------------------------------------------------- assembly

has_fma = pytest.mark.skipif(
    not (target().triple.startswith("x86_64") and target().fma), reason="needs x86-64 with FMA"
)
INSTRUCTIONS = {"float32": "ps", "float64": "pd"}


def hot_loops(assembly, multiply_adds):
    """Bodies of the innermost loops that have at least so many multiply-adds: from a label to the jump back to it."""
    lines = assembly.splitlines()
    labels = {line.split(":")[0]: i for i, line in enumerate(lines) if re.match(r"\.L\w+:", line)}
    ends = [
        (labels[jump[1]], i)
        for i, line in enumerate(lines)
        if (jump := re.match(r"\s+j\w+\s+(\.L\w+)$", line)) and labels.get(jump[1], i) < i
    ]
    innermost = [(a, b) for a, b in ends if not any(a <= c and d < b for c, d in ends if (c, d) != (a, b))]
    bodies = ["\n".join(lines[a : b + 1]) for a, b in innermost]
    return [body for body in bodies if len(re.findall(r"\bvfn?madd", body)) >= multiply_adds]


def assert_hot(body, dtype):
    register = vector_register()
    adds = [line for line in body.splitlines() if "vfmadd" in line]
    for line in adds:
        assert re.search(rf"vfmadd\d+{INSTRUCTIONS[dtype]}\s.*%{register}\d+$", line), line
    assert not re.search(r"vmov\w+\s.*\(%rsp\)", body), f"a vector went to the stack:\n{body}"


@has_fma
@dtypes
@pytest.mark.parametrize(
    "tile",
    [run_full_gemm_tile, run_full_outer_tile, run_full_listed_tile, run_full_packed_tile],
    ids=["gemm", "outer", "listed", "packed"],
)
def test_the_full_tile_lives_in_registers(tile, dtype):
    loops = hot_loops(tile.assembly(dtype), MAX_ROWS * VECTORS)
    assert loops
    for body in loops:
        assert_hot(body, dtype)
        assert len(re.findall("vbroadcast|%{k", body)) <= len(re.findall("vfmadd", body)) / VECTORS


@has_fma
@dtypes
@pytest.mark.parametrize(
    "real",
    [conv_gemm.conv_gemm, conv_weight.conv_weight, conv_weight_in_place.conv_weight_in_place],
    ids=["gemm", "weight", "weight in place"],
)
def test_so_does_the_tile_in_the_real_kernels(real, dtype):
    loops = hot_loops(real.assembly(dtype), MIN_GEMM_ROWS * VECTORS)
    assert len(loops) >= MAX_ROWS - MIN_GEMM_ROWS + 1
    for body in loops:
        if "vmaskmov" not in body:  # the end of a dot product's run, once per tap, may read its mask from the stack
            assert_hot(body, dtype)


@has_fma
@dtypes
def test_and_the_tiles_of_small_groups(dtype):
    loops = hot_loops(conv_weight_groups.conv_weight_groups.assembly(dtype), GROUP_ROWS * GROUP_TAPS)
    for full in loops:
        assert_hot(full, dtype)
    rows = sorted(ROWS * (2 if pairs_fit(target().lanes(np.dtype(dtype).itemsize)) else 1))
    full = sorted(n for n in (len(re.findall("vfmadd", body)) for body in loops) if n % GROUP_TAPS == 0)
    assert full == [n * GROUP_TAPS for n in rows]


@has_fma
@dtypes
def test_and_those_of_slices(dtype):
    loops = hot_loops(conv_weight_slices.conv_weight_slices.assembly(dtype), tap_tile.MOST_SUMS)
    full = [rows for rows in tap_tile.ROWS if rows * tap_tile.most_taps(rows) == tap_tile.MOST_SUMS]
    assert len(loops) == len(full)
    for body in loops:
        assert_hot(body, dtype)


@has_fma
@dtypes
@pytest.mark.skipif(target().registers < 32, reason="for machines with 32 registers")
def test_and_those_of_chains(dtype):
    most = chain_weight_tile.MOST_ROWS * chain_weight_tile.MOST_LINKS
    loops = hot_loops(conv_weight_chains.conv_weight_chains.assembly(dtype), most)
    assert len(loops) == 1
    assert_hot(loops[0], dtype)
