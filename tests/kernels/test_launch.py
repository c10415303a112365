"""The drivers run every block once, and nothing breaks them. What could hang or abort has its own process."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from numbacnn.kernels import _launch, _own_pool
from numbacnn.kernels._build import kernel
from numbacnn.kernels._program import Program
from numbacnn.kernels._together import together
from tests.bits import assert_same_bits
from tests.kernels.fresh import BEGIN, BLOCKS, STEP, run_python, sum_steps, work

drivers = pytest.mark.parametrize("driver", _launch.DRIVERS)


@drivers
@pytest.mark.parametrize("threads", [1, 2, 3, 8, 40])
def test_every_block_runs_once_and_workers_have_numbers(driver, threads):
    with _launch.driver(driver), _launch.threads(threads):
        for _ in range(20):
            assert work() < (1 if driver == "serial" else threads)


def test_every_driver_gives_the_same_bits():
    x = np.random.default_rng(0).standard_normal(BLOCKS * STEP).astype(np.float32)
    out, workers = np.empty(BLOCKS, np.float32), np.empty(BLOCKS, np.int64)

    def compute():
        sum_steps(BLOCKS, x, out, workers, STEP)
        return out.copy()

    assert_same_bits(compute)


@kernel
def note(block, times: "int64*", order: "int64*"):
    times[block] += 1
    order[block] = order[BLOCKS]
    order[BLOCKS] += 1


@drivers
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_backwards(driver, threads):
    """Every block once; on a single thread from the last to the first."""
    times, order = np.zeros(BLOCKS, np.int64), np.zeros(BLOCKS + 1, np.int64)
    with _launch.driver(driver), _launch.threads(threads):
        note.prepare((), BLOCKS, backwards=True)(times, order)
    assert (times == 1).all()
    if threads == 1:
        assert order[:BLOCKS].tolist() == list(range(BLOCKS))[::-1]


@drivers
@pytest.mark.parametrize("threads", [1, 2, 8])
def test_jobs_together(driver, threads):
    """All blocks of all jobs once, whatever their numbers; between them, jobs without any."""
    x = np.random.default_rng(0).standard_normal(BLOCKS * STEP).astype(np.float32)
    sums, workers = np.full((5, BLOCKS), np.nan, np.float32), np.full((5, BLOCKS), -1)
    counts = BLOCKS, 0, 1, 7, 0
    steps = [
        sum_steps.prepare((x.dtype,), count, STEP).on(x, out, who)
        for count, out, who in zip(counts, sums, workers, strict=True)
    ]
    with _launch.driver(driver), _launch.threads(threads):
        Program([together(steps)], ()).run()
        assert together(steps[:1]) is steps[0]
    expected = x.reshape(BLOCKS, STEP).sum(axis=1)
    for count, out, who in zip(counts, sums, workers, strict=True):
        np.testing.assert_allclose(out[:count], expected[:count], rtol=1e-3, atol=1e-3)
        assert np.isnan(out[count:]).all()
        assert who[:count].min(initial=0) >= 0
        assert who.max() < threads
        assert (who[count:] == -1).all()


def test_little_work_stays_in_the_calling_thread(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a pool was asked")

    monkeypatch.setattr(_own_pool, "run", refuse)
    x, out, workers = np.ones(4, np.float32), np.zeros(2, np.float32), np.ones(2, np.int64)
    with _launch.threads(4):
        sum_steps(2, x, out, workers, 2, cost=100.0)
        with pytest.raises(AssertionError, match="a pool was asked"):
            sum_steps(2, x, out, workers, 2)
    assert out.tolist() == [2, 2]
    assert workers.tolist() == [0, 0]


def test_a_busy_pool_leaves_others_to_run_by_themselves():
    with _launch.threads(4):
        work()
        slots = ctypes.cast(_own_pool._workers.state, ctypes.POINTER(ctypes.c_int64))
        slots[_own_pool.BUSY] = 1
        try:
            assert work() == 0
        finally:
            slots[_own_pool.BUSY] = 0


def test_nested_threads_contexts_on_every_driver():
    for outer in _launch.DRIVERS:
        for inner in _launch.DRIVERS:
            with _launch.driver(outer), _launch.threads(3):
                work()
                with _launch.driver(inner), _launch.threads(2):
                    assert work() < 2
                work()


CONCURRENT = """
import concurrent.futures

def job(number):
    for _ in range(15):
        with _launch.driver(_launch.DRIVERS[number % 3] if {mixed} else {driver!r}), _launch.threads(1 + number % 4):
            work()
        work()

with concurrent.futures.ThreadPoolExecutor(8) as executor:
    list(executor.map(job, range(12)))
print("done")
"""


@pytest.mark.parametrize(("driver", "mixed"), [("own", False), ("numba", False), ("own", True)])
def test_many_python_threads_at_once(driver, mixed):
    assert run_python(BEGIN + CONCURRENT.format(driver=driver, mixed=mixed)) == "done"


NESTED = """
import ctypes, struct

@ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
def block_that_launches(record, block, worker, scratch):
    try:
        work()
        with _launch.driver({inner!r}), _launch.threads(2):
            work()
        done.append(block)
    except BaseException as error:
        failures.append(error)

done, failures = [], []
entry = ctypes.cast(block_that_launches, ctypes.c_void_p).value
with _launch.driver({outer!r}), _launch.threads(3):
    work()
    _launch.run(struct.pack(_launch.HEADER, entry, 12, _launch.HEADER_SLOTS, 1))
assert not failures, failures
assert sorted(done) == list(range(12))
print("done", flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("outer", ["own", "numba"])
def test_a_launch_inside_a_launch(outer):
    """Kernels cannot do it, but a finaliser or a signal handler may."""
    for inner in ("own", "numba"):
        assert run_python(BEGIN + NESTED.format(outer=outer, inner=inner)) == "done"


@pytest.mark.parametrize("layer", ["workqueue", "default", "forksafe"])
def test_numba_driver_never_uses_workqueue(layer):
    """It aborts the process when two Python threads call at once; what Numba starts for itself is its own affair."""
    code = """
with _launch.driver("numba"), _launch.threads(4):
    last = max(work() for _ in range(10))
from numba.np.ufunc import parallel
try:
    layer = parallel.threading_layer()
except ValueError:
    layer = "none"
assert layer in ("omp", "tbb") or last == 0, (layer, last)
print(layer)
"""
    used = run_python(BEGIN + code, NUMBA_THREADING_LAYER=layer)
    assert layer != "workqueue" or used == "none"


def test_no_setting_is_changed():
    code = """
import numba
def settings():
    values = {name: value for name, value in vars(numba.config).items() if name.isupper()}
    return dict(os.environ), values, numba.get_num_threads()
before = settings()
for driver in _launch.DRIVERS:
    with _launch.driver(driver), _launch.threads(2):
        work()
work()
assert settings() == before
print("same")
"""
    assert run_python(BEGIN + code) == "same"
