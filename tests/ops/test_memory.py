import contextlib
import copy
import ctypes
import gc
import itertools
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from numbacnn.errors import OptionError
from numbacnn.ops import memory
from numbacnn.ops.memory import (
    POOLED_FROM_BYTES,
    check_guards,
    empty,
    guard_memory,
    memory_stats,
    release_memory,
    set_memory_limit,
)


@pytest.fixture
def _guard_memory():
    """These tests look at the pool itself, as it is without guard zones."""


@pytest.fixture(autouse=True)
def _clean_pool(_guard_memory):
    limit = memory_stats().limit_bytes
    release_memory()
    yield
    set_memory_limit(limit)


def address(array):
    return array.__array_interface__["data"][0]


SHAPE = (64, 16, 16)  # 64 KB of float32


# ------------------------------------------------------------------------------------------------------------ recycling


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


# ------------------------------------------------------------------------------------------------ numbers and limits


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


def test_rooms_are_as_what_is_empty():
    room = memory.Room((3, 2000), np.dtype(np.float32), (4, 12))
    x = room()
    assert (x.shape, x.strides, x.dtype, type(x)) == ((3, 2000), (4, 12), np.float32, np.ndarray)
    assert address(x) % 64 == 0
    before = address(x)
    y = room()
    assert address(y) != before
    del x
    assert address(room()) == before
    assert memory.Room((0, 3), np.dtype(float))().shape == (0, 3)
    assert memory.Room((), np.dtype(float))().shape == ()


def test_borrowers_get_the_workspace_that_was_returned_last():
    before = memory_stats().in_use_bytes
    first, second = memory.borrow(10_000), memory.borrow(20_000)
    assert (first.address | second.address) % 64 == 0
    assert memory_stats().in_use_bytes - before == first.size + second.size
    memory.give_back(first)
    memory.give_back(second)
    assert (memory_stats().in_use_bytes, memory_stats().idle_bytes) == (before, first.size + second.size)
    assert memory.borrow(5000) is second
    assert memory.borrow(10_000) is first
    memory.give_back(first)
    larger = memory.borrow(50_000)
    assert larger not in (first, second)
    memory.give_back(larger)
    memory.give_back(second)
    release_memory()
    assert (memory_stats().in_use_bytes, memory_stats().idle_bytes) == (before, 0)


def test_workspaces_count_as_idle():
    set_memory_limit(1 << 20)
    memory.give_back(memory.borrow(2 << 20))
    assert memory_stats().idle_bytes == 0
    memory.give_back(memory.borrow(1 << 19))
    assert memory_stats().idle_bytes == 1 << 19
    set_memory_limit(0)
    assert memory_stats().idle_bytes == 0


@pytest.mark.parametrize("limit", [-1, 1.5, True, None])
def test_illegal_limits(limit):
    with pytest.raises(OptionError, match="limit_bytes"):
        set_memory_limit(limit)


def test_when_memory_runs_out_idle_blocks_make_room(monkeypatch):
    idle = empty(SHAPE)
    del idle
    slot, failures = memory._Slot, [MemoryError]

    def fragile(size):
        if failures:
            raise failures.pop()
        return slot(size)

    monkeypatch.setattr(memory, "_Slot", fragile)
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
        size = memory.size_class(nbytes)
        assert nbytes <= size <= max(nbytes * 9 / 8, nbytes + 63)
        assert size % 64 == 0
        assert memory.size_class(size) == size


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
    assert stats.in_use_bytes == sum(slot.size for slot in memory._pool.slots if slot.lease is not None)


# --------------------------------------------------------------------------------------------------------------- guards


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
        workspace = memory.borrow(5000)
        assert workspace.address % 64 == 0
        inside = np.ctypeslib.as_array((ctypes.c_uint8 * 5000).from_address(workspace.address))
        assert (inside == 0xFF).all()
        inside[:] = 1
        ctypes.c_uint8.from_address(workspace.address + place).value = 1
        memory.give_back(workspace)


def test_guards_are_silent_about_writes_inside_and_fresh_memory_is_nan():
    with guard_memory():
        x, y = empty((3, 5)), empty(SHAPE, np.float64)
        assert np.isnan(x).all()
        assert np.isnan(y).all()
        x[...], y[...] = 0, 0
        del x
    check_guards()
    assert not memory._pool.guarding


def test_guard_by_environment_variable():
    code = "import numpy as np; from numbacnn.ops import memory; print(np.isnan(memory.empty((2, 2))).all())"
    environment = {**os.environ, "NUMBACNN_GUARD": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("True\n", "")


# -------------------------------------------------------------------------------------------- processes and shutdown


def test_arrays_alive_at_interpreter_exit():
    code = """
import atexit, threading
import numpy as np
from numbacnn.ops import memory
kept = [memory.empty((1000, 1000)) for _ in range(5)]
class Late:
    def __init__(self): self.array = memory.empty((1000, 1000))
    def __del__(self): self.array[...] = 1
late = Late()
late.cycle = late
atexit.register(lambda: kept.append(memory.empty((1000, 1000))))
memory.late = Late()
print("done")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)


def _work_in_child(shared):
    x = empty(SHAPE)
    x[...] = 1
    assert (shared == 5).all()
    os._exit(0 if address(x) != address(shared) else 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_while_another_thread_holds_the_lock():
    shared = empty(SHAPE)
    shared[...] = 5
    held, done = threading.Event(), threading.Event()

    def hold():
        with memory._pool.lock:
            held.set()
            done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)
    child = multiprocessing.get_context("fork").Process(target=_work_in_child, args=(shared,))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of fork beside threads
        child.start()
    child.join(20)
    done.set()
    thread.join()
    assert child.exitcode == 0
