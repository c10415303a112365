"""The pool at the interpreter's end, and in forked processes."""

import multiprocessing
import os
import subprocess
import sys
import threading
import warnings

import pytest

from numbacnn.ops.memory import empty
from numbacnn.ops.memory.recycling import pool
from tests.ops.memory.arrays import SHAPE, address


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
        with pool.lock:
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
