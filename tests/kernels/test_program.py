"""Programs: what a call's launches become once only addresses are open."""

from __future__ import annotations

import gc
import itertools
import weakref

import numpy as np
import pytest

from numbacnn.kernels import _launch, _program
from numbacnn.kernels._build import kernel
from numbacnn.kernels._operands import Distance, Operand
from numbacnn.kernels._program import Program
from numbacnn.kernels._together import in_step, together
from tests.bits import assert_same_bits

F64 = np.dtype(float)


@kernel
def add(block, x: "T*", y: "T[:]", out: "T*", factor: "T"):
    """One block: one element."""
    out[block] = x[block] + factor * y[block]


@kernel
def read_behind(block, x: "T*", out: "T[:]", distance: "int64"):
    out[block] = x[block + distance]


@pytest.fixture(params=["written", "patched"], autouse=True)
def _kind(request, monkeypatch):
    """Small programs are functions that are written out, large ones patch their records."""
    if request.param == "patched":
        monkeypatch.setattr(_program, "LARGE_BYTES", 0)


def arrays(*sizes):
    return [np.arange(1.0, size + 1) * 10**i for i, size in enumerate(sizes)]


def run(program, *operands):
    workspace = np.full(program.workspace_bytes // 8 + 8, np.nan)
    address = -(-workspace.ctypes.data // 64) * 64
    return program.run(*operands, address)


@pytest.mark.parametrize("join", [together, in_step])
def test_what_is_worth_sharing_only_as_a_whole_is_shared(join):
    x, out = Operand((8,), F64), Operand((8,), F64)
    steps = [add.on(2, x, x, out, 1.0, cost=_launch.SERIAL_BELOW_NS_WIDE - 100) for _ in range(2)]
    assert not any(step.shared for step in steps)
    assert join(steps).shared
    assert not join([add.on(2, x, x, out, 1.0, cost=1.0) for _ in range(2)]).shared


@pytest.mark.parametrize("driver", _launch.DRIVERS)
@pytest.mark.parametrize("costs", [(0.0, 0.0), (0.0, 1e9), (1e9, 0.0), (1e9, 1e9)])
def test_steps_follow_each_other_through_workspace(driver, costs):
    """Each reads what the one before has written, whichever of them are shared among threads."""
    x, between, out = (Operand((40,), F64) for _ in range(3))
    steps = [add.on(40, x, x, between, 1.0, cost=costs[0]), add.on(40, between, x, out, 3.0, cost=costs[1])]
    program = Program(steps, (x, out))
    assert program.workspace_bytes == 40 * 8
    with _launch.driver(driver), _launch.threads(3):
        for start in range(5):
            values, result = np.arange(start, start + 40.0), np.zeros(40)
            assert run(program, values, result)
            np.testing.assert_array_equal(result, 5 * values)


def test_the_same_bits_on_every_driver():
    x, out = Operand((1000,), F64), Operand((1000,), F64)
    program = Program([add.on(1000, x, x, out, 0.3, cost=1e9)], (x, out))
    values, result = np.random.default_rng(0).standard_normal(1000), np.empty(1000)

    def compute():
        program.run(values, result)
        return result.copy()

    assert_same_bits(compute)


def test_parts_of_operands():
    x, out = Operand((4, 3, 2), F64), Operand((24,), F64)
    flat = x.reshape(-1)
    assert (flat.shape, flat.size, x[1:3].shape, x[1:3].reshape(2, -1).shape) == ((24,), 24, (2, 3, 2), (2, 6))
    assert (x[3:9].shape, x[2:1].shape, x.ndim, x.nbytes) == ((1, 3, 2), (0, 3, 2), 3, 192)
    with pytest.raises(ValueError, match="an operand is contiguous"):
        x[::2]
    program = Program([add.on(6, x[1:], flat[18:], out[12:], 2.0), add.on(1, x, flat[5:6], out, 1.0)], (x, out))
    values, result = np.arange(24.0).reshape(4, 3, 2), np.zeros(24)
    program.run(values, result)
    expected = np.zeros(24)
    expected[12:18] = np.arange(6, 12) + 2.0 * np.arange(18, 24)
    expected[0] = 5
    np.testing.assert_array_equal(result, expected)


def test_what_is_made_of_an_argument_is_made_at_every_call():
    x, out = Operand((3,), F64), Operand((3,), F64)
    program = Program([add.on(3, Operand.made(lambda a: a[::-1].copy(), F64, x), x, out, 10.0)], (x, out))
    for values in arrays(3, 3):
        result = np.zeros(3)
        program.run(values, result)
        np.testing.assert_array_equal(result, values[::-1] + 10 * values)


def test_distances():
    x, y, out = (Operand((3,), F64) for _ in range(3))
    program = Program([read_behind.on(3, x, out, Distance(x, y)), read_behind.on(1, x, out[2:], 0)], (x, y, out))
    (first, second), result = arrays(3, 3), np.zeros(3)
    program.run(first, second, result)
    assert result.tolist() == [10, 20, 1]


def test_absent_arguments():
    x, out = Operand((3,), F64), Operand((3,), F64)
    program = Program([add.on(3, x, x, out, 1.0)], (x, None, out))
    (values,), result = arrays(3), np.zeros(3)
    assert program.run(values, None, result)
    assert result.tolist() == [2, 4, 6]


def test_constants_live_as_long_as_the_program():
    x, out = Operand((3,), F64), Operand((3,), F64)
    program = Program([add.on(3, x, np.array([5.0, 6.0, 7.0]), out, 1.0)], (x, out))
    rubbish = [np.full(3, -1.0) for _ in range(100)]  # would take the memory of a constant that is gone
    result = np.zeros(3)
    program.run(np.zeros(3), result)
    assert result.tolist() == [5, 6, 7]
    assert len(rubbish) == 100


def test_constants_are_gone_with_the_program():
    """Without a search for cycles: they may be megabytes, and programs that hold them are made at every call."""
    x, between, out = Operand((3,), F64), Operand((3,), F64), Operand((3,), F64)
    constant = np.ones(3)
    steps = [add.on(3, x, constant, between, 1.0), read_behind.on(1, between, out, Distance(x, x))]
    program = Program(steps, (x, out))
    gone = weakref.ref(constant)
    gc.disable()
    try:
        del steps, constant
        assert gone() is not None
        del program
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("which", [0, 1])
def test_nothing_is_done_with_arrays_that_are_not_aligned(which):
    x, out = Operand((3,), F64), Operand((3,), F64)
    program = Program([add.on(3, x, x, out, 1.0)], (x, out))
    operands = [np.ones(3), np.zeros(3)]
    operands[which] = np.zeros(25, np.uint8)[1:].view(F64)
    assert not operands[which].flags.aligned
    assert not program.run(*operands)
    assert operands[1].tolist() == [0, 0, 0]


def test_a_function_that_makes_its_result():
    x, y, out = (Operand((3,), F64) for _ in range(3))
    program = Program([add.on(3, x, y, out, 2.0)], (x, None, y, out))
    aligned, beside = np.arange(3.0), np.zeros(25, np.uint8)[1:].view(F64)
    repaired = []

    def repair(array):
        repaired.append(array)
        return None if array is None else array.copy()

    call = program.returning(lambda: np.empty(3), repair)
    assert call(aligned, None, aligned).tolist() == [0, 3, 6]
    assert not repaired
    assert call(aligned, None, beside).tolist() == [0, 1, 2]
    assert len(repaired) == 3
    assert call(aligned, None, aligned) is not call(aligned, None, aligned)


def test_workspace_is_used_again_after_the_last_step_that_needs_it():
    """Four in a chain, of which two at a time are alive; each begins at a cache line."""
    x, out = Operand((100,), F64), Operand((100,), F64)
    chain = [x, *(Operand((100,), F64) for _ in range(4)), out]
    program = Program([add.on(100, a, a, b, 1.0) for a, b in itertools.pairwise(chain)], (x, out))
    assert program.workspace_bytes == 2 * 832 - 32
    (values,), result = arrays(100), np.zeros(100)
    assert run(program, values, result)
    np.testing.assert_array_equal(result, 32 * values)


def test_steps_together():
    x, out = Operand((3,), F64), Operand((6,), F64)
    both = together([add.on(3, x, x, out, 1.0), add.on(3, x, x, out[3:], 2.0)])
    assert both.blocks == 6
    (values,), result = arrays(3), np.zeros(6)
    Program([both], (x, out)).run(values, result)
    assert result.tolist() == [2, 4, 6, 3, 6, 9]


def test_operands_that_do_not_fit_their_annotation():
    x, flat = Operand((4, 6), F64), Operand((24,), np.dtype(np.float32))
    with pytest.raises(TypeError, match=r"add: y must be 1-D and float64, got 2-D and float64"):
        add.on(1, x, x, x, 1.0)
    with pytest.raises(TypeError, match=r"add: out must be of any rank and float64, got 1-D and float32"):
        add.on(1, x, x.reshape(-1), flat, 1.0)
    with pytest.raises(TypeError, match=r"add, as prepared, takes 3 arguments, got 1"):
        add.prepare((F64,), 1, 1.0).on(x)
