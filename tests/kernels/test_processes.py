"""Forks, child processes and the end of a process, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from numbacnn.kernels import _launch
from tests.kernels.fresh import BEGIN, environment, run_python

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
drivers = pytest.mark.parametrize("driver", _launch.DRIVERS)


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
