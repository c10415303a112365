"""Few rows times a matrix: every number of rows and columns, nothing read beyond them and nothing written beside."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn.kernels._build import kernel
from numbacnn.kernels.row_tile import MOST_ROWS, MOST_SUMS, rows_times_rows
from numbacnn.kernels.tile import tile_lanes

GUARD = 77.0


@kernel
def run_rows(
    block, rows: "int64", x: "T*", x_row: "int64", x_step: "int64", count: "int64", w: "T*", w_row: "int64",
    start: "T*", out: "T*", out_row: "int64", columns: "int64",
):  # fmt: skip
    rows_times_rows(rows, x, x_row, x_step, count, w, w_row, start, out, out_row, columns)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", range(1, MOST_ROWS + 1))
def test_rows_times_rows(dtype, rows):
    n, rng = tile_lanes(np.dtype(dtype).itemsize) // 2, np.random.default_rng(0)
    most = MOST_SUMS // rows
    for columns in {1, n - 1, n, n + 1, 3 * n, most * n - 1, most * n, (2 * most + 5) * n + 1} - {0}:
        for depth in (0, 1, 2, 7):
            x = rng.integers(-9, 9, (rows, depth)).astype(dtype)
            w = rng.integers(-9, 9, (max(depth, 1), columns + 3)).astype(dtype)
            start = rng.integers(-9, 9, -(-columns // n) * n).astype(dtype)
            last = w.reshape(-1)[: w.size - 3].copy()  # memory ends where the last row does
            expected = np.full((rows, columns + 2 * n), GUARD)
            expected[:, n:-n] = start[:columns] + x @ w[:depth, :columns]
            for left, steps in ((x, (depth, 1)), (x.T.copy(), (1, rows))):
                out = np.full(expected.shape, GUARD, dtype)
                within = out.reshape(-1)[n:], columns + 2 * n
                run_rows(1, rows, left, *steps, depth, last, columns + 3, start, *within, columns)
                np.testing.assert_array_equal(out, expected)
