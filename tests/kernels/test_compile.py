"""Compiling kernels: what stands in for parts of Numba, and that Numba itself goes on as if nothing had been."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from numbacnn.kernels import _compile
from numbacnn.kernels._build import device, kernel


@device
def half(value):
    return value // 2


@device
def quarter(value):
    return half(half(value))


@kernel
def parts(block, out: "int64[:]", value: "int64"):
    out[0] = half(value) + max(quarter(value), min(value, 1))


@kernel
def mistaken(block, out: "int64[:]"):
    out[0] = half(out)


@kernel
def mistaken_at_last(block, out: "int64[:]", value: "int64"):
    out[0] = quarter(value) + max(value, min(value, 1))
    out[0] = half(out)


def stand_ins():
    """The attributes of Numba that are replaced while a kernel is compiled."""
    return {(owner, name): getattr(owner, name) for owner, name, _ in _compile._remembered() + _compile._shortened()}


def test_numba_is_left_as_it_was():
    before = stand_ins()
    with _compile.intermediate():
        assert all(getattr(*place) is not original for place, original in before.items())
    assert stand_ins() == before


def test_numba_is_left_as_it_was_when_compiling_fails():
    before = stand_ins()
    with pytest.raises(Exception, match="half"):
        mistaken.compile(())
    assert stand_ins() == before


def test_a_private_part_that_another_version_of_numba_lacks():
    class Owner:
        kept = 1

    assert _compile._standing_in((Owner, "kept", lambda one: one + 1), (Owner, "missing", int)) == [(Owner, "kept", 2)]
    with _compile._replaced([(Owner, "kept", 2), (Owner, "missing", 3)]):
        assert Owner.kept == 2
        assert not hasattr(Owner, "missing")
    assert Owner.kept == 1


@pytest.fixture
def changed_numba(monkeypatch):
    """The way to compile is found out anew, and forgotten after the test."""
    monkeypatch.setattr(_compile, "_quick", True)
    _compile._pipeline.cache_clear()
    yield monkeypatch
    _compile._pipeline.cache_clear()


def hide_a_pass(monkeypatch):
    from numba.core import untyped_passes

    monkeypatch.delattr(untyped_passes, "GenericRewrites")
    return "GenericRewrites"


def change_what_libraries_hold(monkeypatch):
    def callees(library):
        return library._renamed

    monkeypatch.setattr(_compile, "_callees", callees)
    return "_renamed"


@pytest.mark.parametrize("change", [hide_a_pass, change_what_libraries_hold])
def test_numba_as_it_is_compiles_what_cannot_be_compiled_quickly(changed_numba, change):
    missing = change(changed_numba)
    with pytest.warns(RuntimeWarning, match=rf"numba \d.* does not .*AttributeError.*{missing}"):
        code = parts.compile(())
    assert not _compile.is_quick()
    assert run(code, parts._symbol(()), 21) == 10 + 5
    assert run(parts.compile(()), parts._symbol(()), 23) == 11 + 5  # warned of once


def test_a_mistaken_kernel_does_not_end_the_quick_way(changed_numba):
    with pytest.raises(Exception, match="half"):
        mistaken.compile(())
    assert _compile.is_quick()


def run(code, symbol, value):
    """What `parts`, linked from its object file by an engine of its own, writes for `value`."""
    import llvmlite.binding as llvm

    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    out = np.zeros(1, np.int64)
    record = (ctypes.c_int64 * 3)(out.ctypes.data, out.size, value)
    entry = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
    entry(engine.get_function_address(symbol))(ctypes.addressof(record), 0, 0, None)
    return out[0]


def test_helpers_of_helpers_are_linked_once():
    out = np.zeros(1, np.int64)
    parts(1, out, 21)
    assert out.tolist() == [10 + 5]
    _, module = parts._module(())
    assert [function.name for function in module.functions if not function.is_declaration] == [parts._symbol(())]


def called_by_numba(value):
    """What `quarter` and Numba's `min` and `max` make of `value`, called from a function that is Numba's own affair."""
    import numba

    shared = quarter._numba_type_.dispatcher

    @numba.njit
    def by_numba(value):
        return max(shared(value), min(value, 1))

    return by_numba(value)


def test_functions_that_a_kernel_shares_with_numba_can_be_called_from_python():
    """The kernel comes first: Numba finds its own `min` and `max` compiled, but neither linked nor loaded."""
    parts.compile(())
    assert called_by_numba(21) == 5


def test_functions_that_numba_has_loaded_can_be_shared_with_a_kernel():
    """Numba comes first: it must not load its own `min` and `max` a second time, once a kernel has used them."""
    assert called_by_numba(21) == 5
    parts.compile(())
    assert called_by_numba(22) == 5


def test_numba_can_finish_what_a_mistaken_kernel_began():
    with pytest.raises(Exception, match="half"):
        mistaken_at_last.compile(())
    assert called_by_numba(21) == 5
