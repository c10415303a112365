"""Turning rows into columns: every number in its place, nothing read or written beside."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn.kernels._build import kernel
from numbacnn.kernels.columns import pack_lanes
from numbacnn.kernels.layout import copy_transposed
from numbacnn.kernels.tile import tile_lanes

DTYPES = ("float32", "float64")
GUARD = 77.0


@kernel
def run_pack_lanes(
    block, source: "T*", row: "int64", columns: "int64", taps: "int64", packed: "T*", run_row: "int64",
    tap_row: "int64", valid: "int64", filled: "int64",
):  # fmt: skip
    pack_lanes(source, row, 0, columns, taps, packed, run_row, tap_row, valid, filled)


@kernel
def run_copy_transposed(
    block, source: "T*", source_row: "int64", out: "T*", out_row: "int64", rows: "int64", columns: "int64"
):
    copy_transposed(source, 0, source_row, out, 0, out_row, rows, columns)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("vectors", [1, 2, 3])
@pytest.mark.parametrize(("run", "taps"), [(1, 1), (1, 9), (5, 3), (7, 1), (4, 8)])
def test_pack_lanes(dtype, vectors, run, taps):
    n = tile_lanes(np.dtype(dtype).itemsize) // 2
    filled, rng = vectors * n, np.random.default_rng(0)
    for valid in (1, n - 1, n, filled - 1, filled):
        if not 1 <= valid <= filled:
            continue
        row = run * taps + 2
        source = rng.integers(-99, 99, (valid, row)).astype(dtype)
        packed = np.full((taps, run + 1, filled), GUARD, dtype)  # a channel more than there are
        last = source.reshape(-1)[: valid * row - 2].copy()  # memory ends where the last row does
        run_pack_lanes(1, last, row, run * taps, taps, packed, filled, (run + 1) * filled, valid, filled)
        expected = source[:, : run * taps].reshape(valid, run, taps).transpose(2, 1, 0)
        np.testing.assert_array_equal(packed[:, :run, :valid], expected)
        np.testing.assert_array_equal(packed[:, run:], GUARD)
        assert np.isin(packed[:, :run, valid:], source).all()  # no numbers that may be slow, or not numbers


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gap", [0, 3])
def test_copy_transposed(dtype, gap):
    rng = np.random.default_rng(1)
    for rows in (1, 2, 3, 4, 5, 8, 9, 18):
        for columns in (1, 2, 3, 4, 6, 7, 8, 17):
            source = rng.integers(-99, 99, (rows, columns + gap)).astype(dtype)
            out = np.full((columns + 1, rows + gap), GUARD, dtype)
            end = rows * (columns + gap) - gap
            run_copy_transposed(1, source.reshape(-1)[:end].copy(), columns + gap, out, rows + gap, rows, columns)
            np.testing.assert_array_equal(out[:columns, :rows], source[:, :columns].T)
            out[:columns, :rows] = GUARD
            np.testing.assert_array_equal(out, GUARD)
