"""Matrix products: any strides and batches, exact on integers, and the same bits however they are cut."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from numbacnn.errors import DTypeError, ShapeError
from numbacnn.kernels import gemm
from numbacnn.kernels._serial import MOST_SCRATCH_SLOTS
from numbacnn.ops import _matmul_plan, memory
from numbacnn.ops import matmul as module
from numbacnn.ops.matmul import matmul
from numbacnn.ops.memory.recycling import pool
from tests.bits import assert_same_bits

DTYPES = ("float32", "float64")


def integers(*shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(dtype)


def strided(x):
    """The same matrix with neither rows nor columns side by side."""
    return np.repeat(np.repeat(x, 2, -2), 3, -1)[..., ::2, ::3]


def backwards(x):
    return x[..., ::-1, ::-1].copy()[..., ::-1, ::-1]


ORDERS = {"C": np.ascontiguousarray, "F": np.asfortranarray, "strided": strided, "backwards": backwards}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("left", ORDERS)
@pytest.mark.parametrize("right", ORDERS)
def test_every_size_and_order(left, right, dtype):
    for rows, depth, columns in [
        (1, 1, 1), (1, 5, 40), (1, 70, 131), (1, 600, 3), (1, 20, 600), (2, 3, 4), (3, 17, 8), (4, 16, 16), (5, 40, 9),
        (6, 257, 17), (7, 8, 33), (13, 300, 1), (49, 130, 34), (100, 20, 5), (61, 513, 130),
    ]:  # fmt: skip
        a, b = integers(rows, depth, dtype=dtype), integers(depth, columns, dtype=dtype, seed=1)
        result = matmul(ORDERS[left](a), ORDERS[right](b))
        np.testing.assert_array_equal(result, a.astype(int) @ b.astype(int))
        assert result.dtype == dtype
        assert result.flags.c_contiguous


@pytest.mark.parametrize("shape", [(700, 1024, 600), (130, 2000, 530), (2003, 600, 150)])
def test_operands_beyond_the_caches(shape):
    """Rows of `a` are asked for in advance, those of the next stretch of the depth too, and read where they lie."""
    rows, depth, columns = shape
    a, b = integers(rows, depth), integers(depth, columns, seed=1)
    record = _matmul_plan.plan(rows, columns, depth, a.dtype, 1, a.strides + b.strides, False).record
    assert bool(record.far) == (not _matmul_plan.WIDE)
    assert record.depth_block < depth
    if record.far:
        assert not record.copy_rows
    expected = a.astype(int) @ b.astype(int)
    for left in (a, np.asfortranarray(a)):
        for right in (b, np.asfortranarray(b)):
            np.testing.assert_array_equal(matmul(left, right), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(300, 400, 500), (1000, 64, 64), (16, 600, 2500), (1, 700, 5000), (5000, 300, 1)])
def test_many_blocks(shape, dtype):
    rows, depth, columns = shape
    a, b = integers(rows, depth, dtype=dtype), integers(columns, depth, dtype=dtype, seed=1)
    expected = np.einsum("ik,jk->ij", a, b)
    np.testing.assert_array_equal(matmul(a, b.T), expected)
    np.testing.assert_array_equal(matmul(np.asfortranarray(a), np.ascontiguousarray(b.T)), expected)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((5, 2, 3), (3,)), ((3,), (5, 3, 4)), ((5, 2, 3), (3, 4)),
        ((5, 2, 3), (5, 3, 4)), ((1, 2, 3), (5, 3, 4)), ((6, 1, 2, 3), (5, 3, 4)), ((2, 3), (6, 5, 3, 4)),
        ((2, 0), (0, 3)), ((0, 2), (2, 3)), ((2, 3), (3, 0)), ((0, 2, 3), (3, 4)), ((0,), (0,)), ((4, 2, 0), (4, 0, 2)),
        ((40, 30, 20), (40, 20, 50)), ((3, 1, 30), (1, 30, 1)),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("dtype", [*DTYPES, "int64"])
def test_shapes_are_those_of_numpy(a, b, dtype):
    a, b = integers(*a, dtype=dtype), integers(*b, dtype=dtype, seed=1)
    expected = a @ b
    for left in (a, np.asfortranarray(a)):
        result = matmul(left, b)
        np.testing.assert_array_equal(result, expected)
        assert (result.shape, result.dtype) == (expected.shape, expected.dtype)


def test_batches_of_views(monkeypatch):
    monkeypatch.setattr(module, "PLACES", 7)
    a = integers(4, 3, 5, 6).transpose(1, 0, 3, 2)
    b = np.broadcast_to(integers(4, 1, 5, 9, seed=1), (3, 4, 5, 5, 9))[:, :, 2]
    np.testing.assert_array_equal(matmul(a, b), a @ b)


def test_elements_at_odd_places():
    raw = np.zeros(4 * 6 * 5 + 3, np.uint8)
    a = np.ndarray((6, 4), np.float32, raw, 3, (20, 5))
    a[...] = integers(6, 4)
    b = np.zeros(5, [("tag", "u1"), ("x", "f4")])
    b["x"] = integers(5)
    np.testing.assert_array_equal(matmul(a[:, :4], b["x"][:4]), a @ b["x"][:4])


@pytest.mark.parametrize(
    "shape", [(65, 300, 70), (65, 60, 70), (1, 3000, 200), (300, 200, 1), (7, 4000, 3), (10, 70, 201)], ids=str
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_bits(shape, dtype):
    """Each result is one chain of multiply-adds: the same for any threads, strides, and rows or columns beside it."""
    rng = np.random.default_rng(0)
    rows, depth, columns = shape
    a, b = rng.standard_normal((rows, depth)).astype(dtype), rng.standard_normal((depth, columns)).astype(dtype)
    assert_same_bits(lambda: matmul(a, b))
    expected = matmul(a, b)
    for left in ORDERS.values():
        for right in ORDERS.values():
            assert matmul(left(a), right(b)).tobytes() == expected.tobytes()
    for few in range(2, min(rows, 10)):
        for right in ORDERS.values():
            assert matmul(a[-few:], right(b)).tobytes() == expected[-few:].tobytes()
    for i in {0, rows // 2, rows - 1}:
        assert matmul(a[i : i + 1], b).tobytes() == matmul(a[i], b).tobytes() == expected[i].tobytes()
    for j in {0, columns // 2, columns - 1}:
        assert matmul(a, b[:, j]).tobytes() == expected[:, j].tobytes()
    batch = matmul(np.stack([a, -a]), b)
    assert batch[0].tobytes() == expected.tobytes() == (-batch[1]).tobytes()


@pytest.mark.parametrize("rows", [1, 9])
@pytest.mark.parametrize("order", ["C", "F"])
def test_nan_and_infinity_stay_in_their_row(rows, order):
    a, b = np.ones((rows, 40), np.float32), ORDERS[order](np.ones((40, 21), np.float32))
    a[rows - 1, 3] = np.nan
    assert np.isnan(matmul(a, b)).all(axis=1).tolist() == [False] * (rows - 1) + [True]
    a[rows - 1, 3], b[3, 20] = 1, np.inf
    result = matmul(a, b)
    assert np.isposinf(result[:, 20]).all()
    assert np.isfinite(result[:, :20]).all()


def test_errors():
    for a, b in [((2, 3), (2, 3)), ((), (3,)), ((3,), ()), ((2, 2, 3), (3, 3, 4)), ((3,), (4,))]:
        for dtype in ("float32", "int64"):
            with pytest.raises(ShapeError, match="matmul: operands of shapes .* and .* do not fit"):
                matmul(np.zeros(a, dtype), np.zeros(b, dtype))
    with pytest.raises(DTypeError, match="a is float32 but b is float64"):
        matmul(np.zeros((2, 2), np.float32), np.zeros((2, 2)))


def test_scratch_memory_holds_every_copy():
    assert gemm.COLUMNS + gemm.COLUMN_SLOTS <= MOST_SCRATCH_SLOTS
    sizes = (1, 5, 60, 300, 5000, 60_000)
    for rows, columns, depth, itemsize in ((m, n, k, s) for m in sizes for n in sizes for k in sizes for s in (4, 8)):
        for strides in ((depth, 1, columns, 1), (depth, 1, 1, depth), (1, rows, 2, 2 * depth)):
            dtype = np.dtype(f"f{itemsize}")
            plan = _matmul_plan.plan(rows, columns, depth, dtype, 1, tuple(s * itemsize for s in strides), False)
            g = plan.record
            total = -(-columns // g.width)
            panels = -(-total // g.column_blocks)
            assert panels * g.width * itemsize <= gemm.START_SLOTS * 8
            assert not g.copy_rows or g.depth_block * itemsize <= gemm.ROW_SLOTS * 8
            assert g.direct or panels * g.panel * itemsize <= gemm.COLUMN_SLOTS * 8
            assert 1 <= g.row_blocks <= rows
            assert 1 <= g.column_blocks <= total


def test_no_extra_memory(monkeypatch):
    monkeypatch.setattr(pool, "guarding", False)
    a, b = np.ones((700, 3000), np.float32), np.ones((3000, 900), np.float32)
    for left, right in ((a, b), (np.asfortranarray(a), np.asfortranarray(b)), (np.stack([a, a])[:, ::2, ::3], b[::3])):
        matmul(left, right)
        memory.release_memory()
        tracemalloc.start()
        try:
            out = matmul(left, right)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak - memory.size_class(out.nbytes) <= 1 << 20
