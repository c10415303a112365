"""Declaring kernels: what annotations mean, what a launch accepts, what compilation refuses."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from numbacnn.kernels import _build, _launch
from numbacnn.kernels._build import device, inlined, intrinsic, kernel
from numbacnn.kernels._serial import SCRATCH_SLOTS
from numbacnn.kernels.pointer import as_integers, cast, first, load_pointer, offset, store_pointer

DTYPES = (np.float32, np.float64)


class Extents(NamedTuple):
    rows: int
    columns: int


@device
def twice(value):
    return value + value


@inlined
def increased(value):
    return value + 1


@kernel
def scale(block, x: "T[:]", out: "T[:]", alpha: "T", step: "int64"):
    """One block: `step` elements."""
    for i in range(block * step, min(x.shape[0], (block + 1) * step)):
        out[i] = twice(x[i]) * alpha


@kernel
def transpose(block, x: "T[:, :]", out: "T[:, :]"):
    for j in range(x.shape[1]):
        out[j, block] = x[block, j]


@kernel
def copy_strided(block, x: "T*", out: "T*", count: "int64", stride: "int64"):
    for i in range(count):
        out[i] = x[i * stride]


@kernel
def mixed_scalars(block, a: "float64", out: "T[:]", b: "float32", c: "int64", d: "T"):
    out[0] = a
    out[1] = b
    out[2] = c
    out[3] = d


@kernel(I=("uint8", "int32"))
def look_up(block, indices: "I[:]", table: "T[:]", out: "T[:]"):
    for i in range(indices.shape[0]):
        out[i] = table[increased(indices[i]) - 1]


@kernel
def record_fields(block, out: "int64[:]", extents: "Extents", last: "int64"):
    out[0] = extents.rows
    out[1] = extents.columns
    out[2] = last


@kernel
def who_ran(block, worker, workers: "int64[:]"):
    workers[block] = worker


@kernel
def through_scratch(block, worker, scratch, out: "int64*", count: "int64"):
    for i in range(count):
        scratch[i] = block * 1000 + i
    total = 0
    for i in range(count):
        total += scratch[i]
    out[block] = total


@kernel
def pointers(block, scratch, x: "T[:]", out: "T*", bits: "int64*"):
    start = first(x)
    store_pointer(scratch, 3, offset(start, 2))
    out[0] = load_pointer(scratch, 3, start)[0]
    own = cast(offset(scratch, 8), start)
    own[1] = x[1]
    out[1] = own[1]
    bits[0] = as_integers(start)[0]


@kernel
def integers_only(block, out: "int32[:]", flags: "uint8*"):
    out[block] = flags[block] + 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0, 1, 7, 1000])
def test_type_variables_follow_the_first_array(size, dtype):
    x = np.arange(size, dtype=dtype)
    out = np.full(size + 3, -1, dtype)
    scale(-(-size // 10), x, out[:size], 0.5, 10)
    np.testing.assert_array_equal(out[:size], x)
    assert (out[size:] == -1).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_carry_their_shape(dtype):
    x = np.arange(12, dtype=dtype).reshape(3, 4)
    out = np.empty((4, 3), dtype)
    transpose(3, x, out)
    np.testing.assert_array_equal(out, x.T)


@pytest.mark.parametrize("dtype", DTYPES)
def test_pointers_take_any_layout(dtype):
    x = np.arange(30, dtype=dtype)[::-3]
    out = np.empty(10, dtype)
    copy_strided(1, x, out, 10, -3)
    np.testing.assert_array_equal(out, x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scalars_of_every_type(dtype):
    out = np.empty(4, dtype)
    mixed_scalars(1, 0.1, out, 0.1, -(1 << 40), 0.1)
    np.testing.assert_array_equal(out, np.array([0.1, np.float32(0.1), -(1 << 40), 0.1], dtype))
    mixed_scalars(1, np.float64(2), out, np.float32(3), np.int64(4), dtype(5))
    np.testing.assert_array_equal(out, [2, 3, 4, 5])


@pytest.mark.parametrize("index", ["uint8", "int32"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_further_type_variables(index, dtype):
    out = np.empty(3, dtype)
    look_up(1, np.array([2, 0, 1], index), np.array([5, 6, 7], dtype), out)
    np.testing.assert_array_equal(out, [7, 5, 6])
    assert sorted(look_up.bindings()) == sorted((i, t) for i in ("uint8", "int32") for t in _build.FLOATS)


def test_records_and_fixed_dtypes():
    out = np.empty(3, np.int64)
    record_fields(1, out, Extents(4, -5), 6)
    assert out.tolist() == [4, -5, 6]
    flags, result = np.array([1, 255], np.uint8), np.empty(2, np.int32)
    integers_only(2, result, flags)
    assert result.tolist() == [2, 256]
    assert list(integers_only.bindings()) == [()]


def test_workers_are_numbered_and_scratch_is_theirs():
    workers = np.full(500, -1)
    with _launch.threads(3):
        who_ran(500, workers)
    assert set(workers.tolist()) <= {0, 1, 2}
    with _launch.driver("serial"):
        who_ran(500, workers)
    assert (workers == 0).all()
    out = np.empty(64, np.int64)
    for driver in _launch.DRIVERS:
        with _launch.driver(driver), _launch.threads(4):
            through_scratch(64, out, SCRATCH_SLOTS)
        expected = 1000 * np.arange(64) * SCRATCH_SLOTS + SCRATCH_SLOTS * (SCRATCH_SLOTS - 1) // 2
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_pointers_are_kept_in_slots(dtype):
    x, out, bits = np.array([1.5, 2, 3], dtype), np.zeros(2, dtype), np.zeros(1, np.int64)
    pointers(1, x, out, bits)
    assert out.tolist() == [3, 2]
    assert bits[0] == x.view(f"u{x.itemsize}")[0]


def test_no_block_runs_nothing():
    out = np.full(3, 7.0)
    scale(0, np.ones(3), out, 1.0, 1)
    assert (out == 7).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_prepared_launch_is_the_launch(dtype):
    x, out = np.arange(12, dtype=dtype), np.empty(12, dtype)
    scale.prepare((np.dtype(dtype),), 3, 0.5, 4)(x, out)
    np.testing.assert_array_equal(out, x)
    scale.prepare((np.dtype(dtype),), 3)(out, out, 1.5, 4)
    np.testing.assert_array_equal(out, 3 * x)


def test_what_is_prepared_keeps_its_constants_alive():
    out = np.empty(3)
    launch = look_up.prepare((np.dtype(np.int32), np.dtype(float)), 1, np.array([5.0, 6.0, 7.0]), out)
    rubbish = [np.full(3, -1.0) for _ in range(100)]  # would take the memory of a table that is gone
    launch(np.array([2, 0, 1], np.int32))
    assert out.tolist() == [7, 5, 6]
    assert len(rubbish) == 100


# -------------------------------------------------------------------------------------------------------------- errors


def test_wrong_arguments():
    x, out = np.zeros(4), np.zeros(4)
    with pytest.raises(TypeError, match=r"test_build\.scale takes 4 arguments, got 3"):
        scale(1, x, out, 1.0)
    with pytest.raises(TypeError, match=r"test_build\.scale: out must be float64, got float32"):
        scale(1, x, out.astype(np.float32), 1.0, 1)
    with pytest.raises(TypeError, match=r"test_build\.scale: T must be one of float32, float64, got int64"):
        scale(1, x.astype(np.int64), out, 1.0, 1)
    with pytest.raises(TypeError, match="I must be one of uint8, int32, got int64"):
        look_up(1, np.zeros(1, np.int64), x, out)
    with pytest.raises(TypeError, match="out must be int64, got float64"):
        record_fields(1, x, Extents(1, 2), 3)
    launch = scale.prepare((x.dtype,), 1, 0.5, 4)
    with pytest.raises(TypeError, match=r"test_build\.scale, as prepared, takes 2 arguments, got 1"):
        launch(x)
    with pytest.raises(TypeError, match=r"test_build\.scale: x must be float64, got float32"):
        launch(x.astype(np.float32), out)


def test_a_dtype_object_of_its_own_is_as_good():
    """Arrays may carry another object than `np.dtype` gives for the name."""
    x = np.arange(3.0)
    unlike = np.arange(3.0).view(np.dtype(float, metadata={"unit": "m"}))
    assert unlike.dtype is not x.dtype
    out = np.empty(3)
    scale(1, unlike, out, 0.5, 3)
    np.testing.assert_array_equal(out, x)


def test_arrays_that_do_not_fit_their_annotation():
    x, out = np.zeros((4, 6)), np.zeros((6, 4))
    message = r"transpose: x must be a C-contiguous 2-D array, got shape \(4, 3\) with strides \(48, 16\)"
    with pytest.raises(ValueError, match=message):
        transpose(1, x[:, ::2], out)
    with pytest.raises(ValueError, match=r"transpose: x must be a C-contiguous 2-D array, got shape \(24,\)"):
        transpose(1, x.ravel(), out)
    with pytest.raises(ValueError, match="transpose: out must be a C-contiguous 2-D array"):
        transpose(1, x, out[:, ::-1])
    with pytest.raises(ValueError, match="scale: x must be a C-contiguous 1-D array"):
        scale(1, x, out, 1.0, 1)


def test_scalars_that_do_not_fit_their_slot():
    x = np.zeros(4)
    with pytest.raises(Exception, match=r"int|required|argument"):
        scale(1, x, x, 1.0, 1.5)
    with pytest.raises(Exception, match=r"float|required|argument"):
        scale(1, x, x, "half", 1)
    with pytest.raises(Exception, match="range|large|long|number <="):
        scale(1, x, x, 1.0, 1 << 70)


@pytest.mark.parametrize("helper", [twice, increased, offset, store_pointer])
def test_helpers_exist_only_inside_kernels(helper):
    with pytest.raises(TypeError, match=rf"{helper.__name__} exists only inside kernels"):
        helper(1, 2, 3)


def test_helpers_keep_their_name_and_documentation():
    assert scale.__name__ == "scale"
    assert scale.__doc__ == "One block: `step` elements."
    assert scale.name.endswith("test_build.scale")
    assert offset.__doc__.startswith("The pointer")
    assert all(isinstance(helper, (device, intrinsic)) for helper in (twice, increased, offset))


def test_a_kernel_that_needs_the_runtime_of_python_is_refused():
    """Its object file could not be linked in another process, and would take that process down."""

    @intrinsic
    def unlinkable(typingctx, value):
        from llvmlite import ir
        from numba.core import cgutils, types

        def codegen(context, builder, signature, args):
            function_type = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, function_type, "PyErr_CheckSignals"), [])
            return args[0]

        return types.int64(types.int64), codegen

    @kernel
    def checks_signals(block, out: "int64[:]"):
        out[0] = unlinkable(block)

    with pytest.raises(RuntimeError, match=r"checks_signals calls PyErr_CheckSignals, which a kernel cannot link"):
        checks_signals.compile(())
    _build._registry.remove(checks_signals)


def test_every_kernel_is_registered():
    assert scale in _build.registry()
    assert len(set(map(id, _build.registry()))) == len(_build.registry())


@device
def shifted(value, by):
    return value + by


@kernel
def shift_thrice(block, out: "int64[:]", e: "Extents"):
    out[0] = shifted(e.rows, 1)
    out[1] = shifted(e.rows, 2)
    out[2] = shifted(e.columns, e.rows)


def test_a_helper_is_compiled_once_whatever_numbers_a_call_writes_out():
    shift_thrice.compile(())
    assert len(shifted._numba_type_.dispatcher.overloads) == 1
    out = np.zeros(3, np.int64)
    shift_thrice(1, out, Extents(3, 5))
    assert out.tolist() == [4, 5, 8]


@kernel
def unknown_field(block, out: "int64[:]", e: "Extents"):
    out[0] = e.depth


def test_a_field_that_the_record_lacks():
    with pytest.raises(Exception, match="Unknown attribute 'depth' of type Record"):
        unknown_field.compile(())
