"""Guards catch what is written outside arrays and workspaces, and show what was never written."""

import contextlib
import ctypes
import os
import subprocess
import sys

import numpy as np
import pytest

from numbacnn.ops.memory import borrow, check_guards, empty, give_back, guard_memory
from numbacnn.ops.memory.recycling import pool
from tests.ops.memory.arrays import SHAPE, address


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda p, n: p.__setitem__(n, 1), r"float32 array of shape \(5, 7\): overwritten up to 1 bytes after its end"),
        (lambda p, n: p.__setitem__(n + 900, 1), "up to 901 bytes after its end"),
        (lambda p, n: p.__setitem__(-1, 1), "from 1 bytes before its beginning"),
        (lambda p, n: p.__setitem__(-64, 1), "from 64 bytes before its beginning"),
    ],
)
@pytest.mark.parametrize("alive", [True, False])
def test_guards_catch_writes_outside(write, message, alive):
    keep = []
    with pytest.raises(RuntimeError, match=message), guard_memory():
        x = empty((5, 7))
        write(ctypes.cast(address(x), ctypes.POINTER(ctypes.c_uint8)), x.nbytes)
        keep.append(x if alive else None)
        del x
    if not alive:
        check_guards()  # said once
    keep.clear()
    with contextlib.suppress(RuntimeError):
        check_guards()


@pytest.mark.parametrize("place", [-1, 5000])
def test_guards_surround_workspaces(place):
    with pytest.raises(RuntimeError, match="workspace of 5000 bytes: overwritten"), guard_memory():
        workspace = borrow(5000)
        assert workspace.address % 64 == 0
        inside = np.ctypeslib.as_array((ctypes.c_uint8 * 5000).from_address(workspace.address))
        assert (inside == 0xFF).all()
        inside[:] = 1
        ctypes.c_uint8.from_address(workspace.address + place).value = 1
        give_back(workspace)


def test_guards_are_silent_about_writes_inside_and_fresh_memory_is_nan():
    with guard_memory():
        x, y = empty((3, 5)), empty(SHAPE, np.float64)
        assert np.isnan(x).all()
        assert np.isnan(y).all()
        x[...], y[...] = 0, 0
        del x
    check_guards()
    assert not pool.guarding


def test_guard_by_environment_variable():
    code = "import numpy as np; from numbacnn.ops import memory; print(np.isnan(memory.empty((2, 2))).all())"
    environment = {**os.environ, "NUMBACNN_GUARD": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("True\n", "")
