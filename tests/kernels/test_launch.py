"""Threads and drivers: how many, which, and that nothing breaks them. What could hang or abort has its own process."""

from __future__ import annotations

import concurrent.futures
import os
import subprocess
import sys

import numpy as np
import pytest

from numbacnn import config
from numbacnn.kernels import _launch, _own_pool
from numbacnn.kernels._together import together
from tests.bits import assert_same_bits
from tests.kernels.fresh import BLOCKS, STEP, environment, run_python, sum_steps, work

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
drivers = pytest.mark.parametrize("driver", _launch.DRIVERS)

BEGIN = """
import os, sys, threading
from numbacnn.kernels import _launch
from tests.kernels.fresh import work
"""


# --------------------------------------------------------------------------------------------------- number of threads


@pytest.fixture
def machine(monkeypatch):
    """A machine of 16 cores without settings; returns a function that sets environment variables."""
    for name in ("NUMBACNN_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_launch, "_default", None)
    monkeypatch.setattr(_launch, "_global_threads", None)
    monkeypatch.setattr(_launch, "_cgroup_cores", lambda: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)

    def set_variables(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_variables


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, 16),
        ({"OMP_NUM_THREADS": "4"}, 4),
        ({"OMP_NUM_THREADS": "4,2,1"}, 4),
        ({"NUMBA_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "6", "NUMBA_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "64"}, 16),
        ({"NUMBACNN_NUM_THREADS": "24", "OMP_NUM_THREADS": "2"}, 24),
        ({"NUMBACNN_NUM_THREADS": "9999"}, _launch.MAX_THREADS),
        ({"NUMBACNN_NUM_THREADS": " 7 "}, 7),
        *(({"NUMBACNN_NUM_THREADS": nonsense}, 16) for nonsense in ("", "0", "-1", "many", "2.5")),
        ({"OMP_NUM_THREADS": "0"}, 16),
    ],
    ids=str,
)
def test_environment(variables, expected, machine):
    machine(**variables)
    assert _launch.get_num_threads() == expected


def test_cgroup_quota_counts(machine, monkeypatch):
    monkeypatch.setattr(_launch, "_cgroup_cores", lambda: 3)
    assert _launch.get_num_threads() == 3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity")
def test_affinity_counts():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})" + BEGIN
    code += "print(_launch.get_num_threads()); work()"
    assert run_python(code, NUMBACNN_NUM_THREADS=None, OMP_NUM_THREADS=None) == "1"


class TestCgroup:
    """Quotas from files laid out as the kernel does."""

    @pytest.fixture
    def cores(self, tmp_path):
        def cores(membership, files):
            for path, content in files.items():
                place = tmp_path / "fs" / path
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(content)
            (tmp_path / "cgroup").write_text(membership)
            return _launch._cgroup_cores(str(tmp_path / "fs"), str(tmp_path / "cgroup"))

        return cores

    @pytest.mark.parametrize(
        ("content", "expected"),
        [("max 100000\n", None), ("200000 100000\n", 2), ("250000 100000\n", 3), ("1000 100000\n", 1), ("", None)],
    )
    def test_version_2_in_a_container(self, cores, content, expected):
        assert cores("0::/\n", {"cpu.max": content}) == expected

    def test_version_2_takes_the_least_quota_of_all_parents(self, cores):
        files = {"user.slice/cpu.max": "300000 100000", "user.slice/job/cpu.max": "max 100000"}
        assert cores("0::/user.slice/job\n", files) == 3
        assert cores("0::/user.slice/job\n", {"user.slice/job/cpu.max": "150000 100000"}) == 2
        assert cores("0::/another.slice\n", {}) is None

    @pytest.mark.parametrize(("quota", "expected"), [("-1\n", None), ("400000\n", 4), ("50000\n", 1), ("x", None)])
    def test_version_1(self, cores, quota, expected):
        folder = "cpu/docker/ab"
        files = {f"{folder}/cpu.cfs_quota_us": quota, f"{folder}/cpu.cfs_period_us": "100000\n"}
        assert cores("12:cpu,cpuacct:/docker/ab\n11:memory:/docker/cd\n0::/\n", files) == expected

    def test_version_1_of_another_controller_does_not_count(self, cores):
        files = {"cpu/docker/cpu.cfs_quota_us": "100000", "cpu/docker/cpu.cfs_period_us": "100000"}
        assert cores("11:memory:/docker\n", files) is None

    def test_no_files_at_all(self, tmp_path):
        assert _launch._cgroup_cores(str(tmp_path / "nothing"), str(tmp_path / "none")) is None


def test_setting_the_number_of_threads(machine):
    machine(NUMBACNN_NUM_THREADS="5")
    assert config.get_num_threads() == 5
    config.set_num_threads(3)
    assert config.get_num_threads() == 3
    with config.threads(7):
        assert config.get_num_threads() == 7
        with pytest.raises(KeyError), config.threads(2):  # an error leaves nothing behind
            raise KeyError
        assert config.get_num_threads() == 7
    assert config.get_num_threads() == 3


@pytest.mark.parametrize("wrong", [0, -1, 257, 1 << 70])
def test_numbers_out_of_range(wrong):
    for setter in (config.set_num_threads, lambda n: config.threads(n).__enter__()):
        with pytest.raises(ValueError, match=f"number of threads must be from 1 to 256, got {wrong}"):
            setter(wrong)


@pytest.mark.parametrize("wrong", [1.0, "2", None, True])
def test_what_is_no_number(wrong):
    for setter in (config.set_num_threads, lambda n: config.threads(n).__enter__()):
        with pytest.raises(TypeError, match=f"number of threads must be an integer, got {wrong!r}"):
            setter(wrong)


def test_unknown_driver():
    with pytest.raises(ValueError, match="driver must be one of serial, own, numba; got 'tbb'"), _launch.driver("tbb"):
        pass


def in_thread(function):
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        return executor.submit(function).result(timeout=60)


def test_another_python_thread_gets_one_thread_unless_it_asks():
    with config.threads(4):
        assert in_thread(config.get_num_threads) == 1

    def asks():
        with config.threads(3):
            return config.get_num_threads()

    assert in_thread(asks) == 3
    assert in_thread(work) == 0


# ------------------------------------------------------------------------------------------------------------- drivers


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


@drivers
@pytest.mark.parametrize("threads", [1, 2, 8])
def test_jobs_together(driver, threads):
    """All blocks of all jobs once, whatever their numbers; between them, jobs without any."""
    x = np.random.default_rng(0).standard_normal(BLOCKS * STEP).astype(np.float32)
    sums, workers = np.full((5, BLOCKS), np.nan, np.float32), np.full((5, BLOCKS), -1)
    counts = BLOCKS, 0, 1, 7, 0
    jobs = [
        sum_steps.prepare((x.dtype,), count, STEP).job(x, out, who)
        for count, out, who in zip(counts, sums, workers, strict=True)
    ]
    with _launch.driver(driver), _launch.threads(threads):
        _launch.run(together(jobs))
        assert together(jobs[:1]) is jobs[0]
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
    with _own_pool._busy, _launch.threads(4):
        assert work() == 0


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
    _launch.run((struct.pack(_launch.HEADER, entry, 12, _launch.HEADER_SLOTS, 1), ()))
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


# ---------------------------------------------------------------------------------------------------------------- forks

FORK = """
with _launch.driver({driver!r}), _launch.threads(4):
    work()

def child():
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            for driver in _launch.DRIVERS:
                with _launch.driver(driver), _launch.threads(4):
                    work()
            work()
            status = 0
        finally:
            os._exit(status)
    return pid

for _ in range(3):
    _, status = os.waitpid(child(), 0)
    assert status == 0, status
    with _launch.driver({driver!r}), _launch.threads(4):
        work()
print("done")
"""


@needs_fork
@drivers
def test_a_forked_child_works_whatever_the_parent_did(driver):
    """Its pool's threads do not exist, and OpenMP would abort."""
    assert run_python(BEGIN + FORK.format(driver=driver)) == "done"


@needs_fork
def test_a_fork_in_the_middle_of_a_launch():
    code = """
def launch():
    while not stop:
        with _launch.threads(3):
            work()

stop = False
thread = threading.Thread(target=launch)
thread.start()
for _ in range(10):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with _launch.threads(3):
                work()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
stop = True
thread.join()
print("done")
"""
    assert run_python(BEGIN + "work()\n" + code) == "done"


FORK_WHILE_COMPILING = """
import time
from numbacnn.kernels import _build, _cache

def slow(key, compile=_build.Kernel.compile):
    started.set()
    time.sleep(0.5)
    return compile(fresh.sum_steps, key)

from tests.kernels import fresh
started = threading.Event()
fresh.sum_steps.compile = slow
thread = threading.Thread(target=work)
thread.start()
assert started.wait(60)
pid = os.fork()
if pid == 0:
    status = 1
    try:
        work()  # would wait for ever for a lock that a thread holds which does not exist here
        status = 0
    finally:
        os._exit(status)
thread.join()
assert os.waitpid(pid, 0)[1] == 0
print("done")
"""


@needs_fork
def test_a_fork_while_another_thread_compiles(tmp_path):
    assert run_python(BEGIN + FORK_WHILE_COMPILING, timeout=60, NUMBACNN_CACHE_DIR=tmp_path) == "done"


MULTIPROCESSING = """
import multiprocessing, sys
from numbacnn.kernels import _launch
from tests.kernels.fresh import work

def job(driver):
    with _launch.driver(driver), _launch.threads(3):
        work()
    return _launch.get_num_threads() >= 1

if __name__ == "__main__":
    for driver in ("own", "numba"):
        job(driver)
    with multiprocessing.get_context({method!r}).Pool(2) as pool:
        print(all(pool.map(job, ["own", "numba", "serial", "own"])))
"""


@needs_fork
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(method, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(MULTIPROCESSING.format(method=method))
    result = subprocess.run(
        [sys.executable, str(script)], env=environment({}), capture_output=True, text=True, timeout=120, check=False
    )
    assert result.stdout.strip() == "True", result.stderr


def test_a_process_ends_while_its_workers_sleep_or_spin():
    run_python(BEGIN + "with _launch.threads(4): work()")
    run_python(BEGIN + "import time\nwith _launch.threads(4): work()\ntime.sleep(0.3)")
    run_python(BEGIN + "threading.Thread(target=work).start()")
