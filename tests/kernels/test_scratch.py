"""The guard of the scratch catches what it is for."""

import numpy as np
import pytest

from numbacnn.kernels import _launch
from numbacnn.kernels._build import kernel
from numbacnn.kernels._serial import MOST_SCRATCH_SLOTS
from tests.kernels.scratch import GuardedScratch


@kernel
def write_scratch(block, scratch, slot: "int64", seen: "int64[:]"):
    seen[block] = scratch[0]
    scratch[slot] = block


@pytest.fixture(autouse=True)
def _serial(monkeypatch):
    monkeypatch.setattr(_launch, "_serial", GuardedScratch())
    with _launch.driver("serial"):
        yield


@pytest.mark.parametrize("slot", [0, MOST_SCRATCH_SLOTS - 1])
def test_silent_about_what_is_inside(slot):
    seen = np.zeros(3, np.int64)
    for _ in range(2):
        write_scratch(3, slot, seen)
        assert seen.tolist() == ([-1, 0, 1] if slot == 0 else [-1] * 3)


@pytest.mark.parametrize(
    ("slot", "message"),
    [
        (-1, "from slot -1"),
        (-70, "from slot -70"),
        (MOST_SCRATCH_SLOTS, "1 slots beyond its end"),
        (MOST_SCRATCH_SLOTS + 9, "10 slots beyond its end"),
    ],
)
def test_writes_outside(slot, message):
    with pytest.raises(RuntimeError, match=rf"write_scratch wrote outside its scratch: {message}"):
        write_scratch(1, slot, np.zeros(1, np.int64))
    write_scratch(1, 0, np.zeros(1, np.int64))  # said once
