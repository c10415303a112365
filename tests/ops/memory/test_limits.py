"""What the pool holds, what may wait idle, and what happens when memory runs out."""

import numpy as np
import pytest

from numbacnn.errors import OptionError
from numbacnn.ops.memory import empty, memory_stats, recycling, release_memory, set_memory_limit, size_class
from tests.ops.memory.arrays import SHAPE, address


def test_stats_follow_arrays():
    start = memory_stats(reset_peak=True)
    x, y = empty((1024, 256)), empty((1024, 256))
    now = memory_stats()
    assert now.in_use_bytes - start.in_use_bytes == 2 * 2**20
    assert now.misses - start.misses == 2
    del x
    now = memory_stats()
    assert (now.in_use_bytes - start.in_use_bytes, now.idle_bytes) == (2**20, 2**20)
    assert now.peak_bytes - start.in_use_bytes == 2 * 2**20
    assert memory_stats(reset_peak=True).peak_bytes == now.peak_bytes
    assert memory_stats().peak_bytes == now.in_use_bytes
    del y


def test_release_gives_back_what_is_idle_only():
    x, y = empty(SHAPE), empty(SHAPE)
    y[...] = 7
    del x
    in_use = memory_stats().in_use_bytes
    release_memory()
    now = memory_stats()
    assert (now.idle_bytes, now.in_use_bytes) == (0, in_use)
    assert (y == 7).all()


def test_limit_frees_the_longest_idle_first():
    arrays = [empty((n, 1024), np.uint8) for n in (64, 128, 256)]
    addresses = [address(x) for x in arrays]
    set_memory_limit(400 << 10)
    for i in (2, 0, 1):  # the largest has been idle longest
        arrays[i] = None
        memory_stats()
    assert memory_stats().idle_bytes == (64 + 128) << 10
    assert address(empty((128, 1024), np.uint8)) == addresses[1]
    set_memory_limit(0)
    assert memory_stats().idle_bytes == 0
    keep = empty(SHAPE)
    del keep
    assert memory_stats().idle_bytes == 0


@pytest.mark.parametrize("limit", [-1, 1.5, True, None])
def test_illegal_limits(limit):
    with pytest.raises(OptionError, match="limit_bytes"):
        set_memory_limit(limit)


def test_when_memory_runs_out_idle_blocks_make_room(monkeypatch):
    idle = empty(SHAPE)
    del idle
    slot, failures = recycling.Slot, [MemoryError]

    def fragile(size):
        if failures:
            raise failures.pop()
        return slot(size)

    monkeypatch.setattr(recycling, "Slot", fragile)
    x = empty((100, 1000))
    assert memory_stats().idle_bytes == 0
    failures += [MemoryError, MemoryError]
    before = memory_stats().in_use_bytes
    with pytest.raises(MemoryError):
        empty((200, 1000))
    assert memory_stats().in_use_bytes == before
    del x


def test_size_classes_waste_little():
    for nbytes in [*range(1, 5000), *(10**k + 1 for k in range(4, 12))]:
        size = size_class(nbytes)
        assert nbytes <= size <= max(nbytes * 9 / 8, nbytes + 63)
        assert size % 64 == 0
        assert size_class(size) == size
