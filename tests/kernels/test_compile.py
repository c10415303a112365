"""Compiling kernels: what stands in for parts of Numba, and that Numba itself goes on as if nothing had been."""

from __future__ import annotations

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

    with _compile._replaced([(Owner, "kept", 2), (Owner, "missing", 3)]):
        assert Owner.kept == 2
        assert not hasattr(Owner, "missing")
    assert Owner.kept == 1


def test_helpers_of_helpers_are_linked_once():
    out = np.zeros(1, np.int64)
    parts(1, out, 21)
    assert out.tolist() == [10 + 5]
    _, module = parts._module(())
    assert [function.name for function in module.functions if not function.is_declaration] == [parts._symbol(())]


def test_functions_that_a_kernel_shares_with_numba_can_be_called_from_python():
    """The kernel comes first: Numba finds its own `min` and `max` compiled, but neither linked nor loaded."""
    import numba

    parts.compile(())
    shared = quarter._compiled

    @numba.njit
    def by_numba(value):
        return max(shared(value), min(value, 1))

    assert by_numba(21) == 5
