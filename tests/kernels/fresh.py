"""A small piece of work for the thread pools, and processes of their own to do it in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from numbacnn.kernels._build import kernel
from numbacnn.kernels.pointer import cast, first

ROOT = Path(__file__).parents[2]
BLOCKS, STEP = 300, 2000
BEGIN = """
import os, sys, threading
from numbacnn.kernels import _launch
from tests.kernels.fresh import work
"""  # how the code of such a process begins


@kernel
def sum_steps(block, worker, scratch, x: "T[:]", out: "T[:]", workers: "int64[:]", step: "int64"):
    """One block: the sum of `step` elements, by way of scratch memory, and who did it."""
    own = cast(scratch, first(x))
    for i in range(step):
        own[i] = x[block * step + i]
    total = own[0]
    for i in range(1, step):
        total += own[i]
    out[block] = total
    workers[block] = worker


def work() -> int:
    """Run `BLOCKS` blocks, check every sum, and return the number of the last worker that took part."""
    x = (np.arange(BLOCKS * STEP) % 97).astype(np.float32)
    out, workers = np.full(BLOCKS, -1, np.float32), np.full(BLOCKS, -1)
    sum_steps(BLOCKS, x, out, workers, STEP)
    assert np.array_equal(out, x.reshape(BLOCKS, STEP).sum(axis=1))  # np.testing would be imported here, under a lock
    assert workers.min() >= 0
    return int(workers.max())


def environment(changes: dict[str, object]) -> dict[str, str]:
    """This process's environment with `changes`; None removes a variable."""
    merged = {**os.environ, "PYTHONPATH": str(ROOT), **changes}
    return {name: str(value) for name, value in merged.items() if value is not None}


def start_python(code: str, **changes: object) -> subprocess.Popen:
    """Start a process that runs `code`."""
    return start([sys.executable, "-c", code], **changes)


def start(command: list[str], cwd: Path | None = None, **changes: object) -> subprocess.Popen:
    """Start a process, with some environment variables changed."""
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=environment(changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen, timeout: float = 180) -> str:
    """What a process printed; it must end well and in time."""
    try:
        printed, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        printed, errors = process.communicate()
        raise AssertionError(f"no end after {timeout} s\n{printed}\n{errors}") from None
    assert process.returncode == 0, f"exit status {process.returncode}\n{printed}\n{errors}"
    return printed.strip()


def run_python(code: str, timeout: float = 180, **changes: object) -> str:
    """Run `code` in a process of its own, with some environment variables changed; return what it printed."""
    return finish(start_python(code, **changes), timeout)
