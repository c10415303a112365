"""A row times rows: every number of columns, nothing read beyond them and nothing written beside."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn.kernels._build import kernel
from numbacnn.kernels.row_tile import VECTORS, row_times_rows
from numbacnn.kernels.tile import tile_lanes

GUARD = 77.0


@kernel
def run_row(
    block, x: "T*", count: "int64", w: "T*", row: "int64", start: "T*", out: "T*", columns: "int64"
):  # fmt: skip
    row_times_rows(x, count, w, row, start, out, columns)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("depth", [0, 1, 2, 7])
def test_row_times_rows(dtype, depth):
    n, rng = tile_lanes(np.dtype(dtype).itemsize) // 2, np.random.default_rng(0)
    for columns in {1, n - 1, n, n + 1, 3 * n, VECTORS * n - 1, VECTORS * n, (2 * VECTORS + 5) * n + 1} - {0}:
        x = rng.integers(-9, 9, depth).astype(dtype)
        w = rng.integers(-9, 9, (max(depth, 1), columns + 3)).astype(dtype)
        start = rng.integers(-9, 9, -(-columns // n) * n).astype(dtype)
        out = np.full(columns + 2 * n, GUARD, dtype)
        last = w.reshape(-1)[: w.size - 3].copy()  # memory ends where the last row does
        run_row(1, x, depth, last, columns + 3, start, out[n:], columns)
        expected = start[:columns] + x @ w[:depth, :columns]
        np.testing.assert_array_equal(out, np.pad(expected, n, constant_values=GUARD))
