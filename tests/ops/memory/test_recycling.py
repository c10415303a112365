"""Arrays are plain ones; their memory is used again when they and all their views are gone, and no sooner."""

import contextlib
import copy
import ctypes
import gc
import itertools
import pickle
import threading

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from numbacnn.ops.memory import Room, check_guards, empty, guard_memory, memory_stats, release_memory, set_memory_limit
from numbacnn.ops.memory.arrays import POOLED_FROM_BYTES
from numbacnn.ops.memory.recycling import pool
from tests.ops.memory.arrays import SHAPE, address


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "complex128"])
@pytest.mark.parametrize("shape", [(4096,), (3, 5000), (7, 11, 13, 17), (1, 2**20)])
def test_arrays_are_plain_aligned_and_contiguous(shape, dtype):
    x = empty(shape, dtype)
    assert type(x) is np.ndarray
    assert (x.shape, x.dtype) == (shape, np.dtype(dtype))
    assert x.flags.c_contiguous
    assert x.flags.writeable
    assert address(x) % 64 == 0
    x[...] = 1


def test_memory_of_a_dead_array_is_used_again():
    x = empty(SHAPE)
    where = address(x)
    del x
    hits = memory_stats().hits
    y = empty(SHAPE)
    assert address(y) == where
    assert memory_stats().hits == hits + 1
    # Another shape and dtype of the same size class will do.
    del y
    assert address(empty((8192,), np.float64)) == where


def test_the_last_dead_array_may_be_gone_once_it_has_been_seen(monkeypatch):
    """Between a look at the list and its `pop` another thread may take the last one, which needs no lock."""

    class Raced(list):
        def __bool__(self):
            return True

    monkeypatch.setattr(pool, "dead", Raced())
    release_memory()
    assert empty(SHAPE).shape == SHAPE


VIEWS = {
    "transpose": lambda x: x.T,
    "transpose of transpose": lambda x: x.T.T.T,
    "slice of slice": lambda x: x[1:][:, 2:][..., ::-1],
    "reshape": lambda x: x.reshape(-1)[5:].reshape(-1, 1),
    "dtype view": lambda x: x.view(np.uint8)[..., 3:],
    "imaginary part": lambda x: x.view(np.complex64).imag,
    "subclass view": lambda x: x.view(type("Sub", (np.ndarray,), {})).T,
    "broadcast": lambda x: np.broadcast_to(x, (3, *x.shape)),
    "strided": lambda x: np.lib.stride_tricks.as_strided(x, (3,), (4,)),
    "diagonal": lambda x: np.diagonal(x),
    "flat iterator": lambda x: x.flat,
    "memoryview": memoryview,
    "memoryview slice": lambda x: memoryview(x)[3:],
    "frombuffer": lambda x: np.frombuffer(x, np.float32),
    "buffer argument": lambda x: np.ndarray((3,), np.float32, buffer=x),
    "dlpack": lambda x: np.from_dlpack(x) if hasattr(np, "from_dlpack") else x,
    "ctypes pointer": lambda x: x.ctypes.data_as(ctypes.c_void_p),
    "scalar buffer": lambda x: pickle.PickleBuffer(x),
    "masked": lambda x: np.ma.array(x, copy=False),
    "split": lambda x: np.split(x, 4)[2],
    "field": lambda x: x.view([("a", "f4"), ("b", "f4")])["b"],
}


@pytest.mark.parametrize("name", VIEWS)
def test_every_kind_of_view_keeps_the_memory(name):
    x = empty(SHAPE)
    where = address(x)
    view = VIEWS[name](x)
    del x
    others = [empty(SHAPE) for _ in range(3)]
    assert where not in map(address, others)
    del others, view
    gc.collect()
    assert where in {address(y) for y in [empty(SHAPE) for _ in range(5)]}


def test_copies_are_independent():
    x = empty(SHAPE)
    x[...] = 3
    twins = [
        copy.copy(x),
        copy.deepcopy(x),
        pickle.loads(pickle.dumps(x)),
        pickle.loads(pickle.dumps(x, protocol=5)),
        x + 0,
    ]
    del x
    y = empty(SHAPE)
    y[...] = 4
    assert all((twin == 3).all() and type(twin) is np.ndarray for twin in twins)


def test_arrays_in_reference_cycles_come_back():
    node = {"array": empty(SHAPE)}
    node["self"] = node
    where = address(node["array"])
    del node
    gc.collect()
    assert address(empty(SHAPE)) == where


def test_small_empty_and_object_arrays_are_not_pooled():
    before = memory_stats()
    keep = [empty((3, 5)), empty((0, 10**6)), empty((10_000,), object), empty((), np.float64)]
    assert memory_stats() == before
    assert [x.shape for x in keep] == [(3, 5), (0, 10**6), (10_000,), ()]


@pytest.mark.parametrize("shape", [(-1, 5000), (-1, -5000)])
def test_negative_sizes_are_refused_and_nothing_is_lost(shape):
    before = memory_stats().in_use_bytes
    with pytest.raises(ValueError, match="negative"):
        empty(shape)
    assert memory_stats().in_use_bytes == before


def test_rooms_are_as_what_is_empty():
    room = Room((3, 2000), np.dtype(np.float32), (4, 12))
    x = room()
    assert (x.shape, x.strides, x.dtype, type(x)) == ((3, 2000), (4, 12), np.float32, np.ndarray)
    assert address(x) % 64 == 0
    before = address(x)
    y = room()
    assert address(y) != before
    del x
    assert address(room()) == before
    assert Room((0, 3), np.dtype(float))().shape == (0, 3)
    assert Room((), np.dtype(float))().shape == ()


def test_a_block_holds_arrays_of_different_rooms_one_after_the_other():
    rooms = [Room((3, 2000), np.dtype("f4"), (4, 12)), Room((2000, 3), np.dtype("f4")), Room((3000,), np.dtype("f8"))]
    seen = set()
    for room in [rooms[0], *rooms, rooms[0]]:
        x = room()
        assert (x.shape, x.dtype, type(x), x.flags.writeable) == (room.shape, room.dtype, np.ndarray, True)
        assert room.strides in (None, x.strides)
        seen.add(address(x))
        del x
    assert len(seen) == 1


def test_a_guarded_block_leaves_no_trace():
    shape = (1 << 20,)  # with the guards of the same size class
    room = Room(shape, np.dtype("u1"))
    with guard_memory():
        room()[...] = 1
    x = room()
    assert address(x) % 64 == 0
    assert address(x.base) == address(x)
    assert x.base.base.nbytes >= x.nbytes + 64


@pytest.mark.parametrize("strides", [(128, 4, 128, 32), (128, 4, 4000, 32), (0, 4, 32, 32), (128, 16, 16, 4), None])
def test_small_rooms_keep_strides(strides):
    x = Room((1, 8, 1, 4), np.dtype("f4"), strides)()
    assert x.strides == (strides or (128, 16, 16, 4))
    assert x.flags.owndata


# --------------------------------------------------------------------------------------- no two arrays ever overlap


class PoolMachine(RuleBasedStateMachine):
    """Allocate, view, drop and release in any order: every live array keeps the values written to it."""

    arrays = Bundle("arrays")

    def __init__(self):
        super().__init__()
        self.live = {}
        self.count = 0

    @rule(target=arrays, size=st.sampled_from([POOLED_FROM_BYTES, 5000, 8192, 8193, 70_000]), guard=st.booleans())
    def allocate(self, size, guard):
        with guard_memory() if guard else contextlib.nullcontext():
            array = empty((size,), np.uint8)
        self.count += 1
        array[...] = self.count % 251
        self.live[self.count] = array
        return self.count

    @rule(key=arrays, target=arrays)
    def keep_only_a_view(self, key):
        if key in self.live:
            self.live[key] = self.live[key][::2][1:]
        return key

    @rule(key=consumes(arrays))
    def drop(self, key):
        self.live.pop(key, None)

    @rule()
    def release(self):
        release_memory()

    @rule(limit=st.sampled_from([0, 10_000, 1 << 30]))
    def limit(self, limit):
        set_memory_limit(limit)

    @invariant()
    def values_survive(self):
        for key, array in self.live.items():
            assert (array == key % 251).all()
        spans = sorted((address(a), address(a) + a.strides[0] * (a.size - 1) + 1) for a in self.live.values())
        assert all(stop <= start for (_, stop), (start, _) in itertools.pairwise(spans))
        check_guards()

    @invariant()
    def numbers_agree(self):
        stats = memory_stats()
        assert stats.in_use_bytes >= sum(a.nbytes for a in self.live.values())
        assert 0 <= stats.idle_bytes <= stats.limit_bytes


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


def test_many_threads():
    errors = []

    def work(value):
        random = np.random.default_rng(value)
        held = []
        for _ in range(300):
            x = empty((int(random.integers(1024, 4096)),), np.float32)
            x[...] = value
            held.append(x[::3])
            if len(held) > 5:
                y = held.pop(int(random.integers(len(held))))
                if not (y == value).all():
                    errors.append(value)

    threads = [threading.Thread(target=work, args=(value,)) for value in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    stats = memory_stats()
    assert stats.in_use_bytes == sum(slot.size for slot in pool.slots if slot.lease is not None)
