"""A library in a process of its own, commanded over a pipe. The two ends of the pipe: `Worker` asks, `_serve` answers.

One process per library because their thread pools, allocators and symbol tables disturb each other; a persistent one
because importing and compiling must not be timed again for each block of calls.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import time
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import numpy as np

from . import inputs, memory
from .cases import Case, TrainCase
from .libraries import Call, Unsupported, connect, result_names

# A training step is judged by its loss after a few of them: that depends on every gradient.
STEPS_JUDGED = 4
# Read when libraries are loaded. OpenBLAS's threads would spin for a tenth of a second after their last work.
_SETTINGS = {"OPENBLAS_THREAD_TIMEOUT": "20"}
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBACNN_NUM_THREADS")


class WorkerFailed(Exception):
    """The library raised, crashed or did not answer in time; the message says which."""


class Session:
    """What a worker can be asked to do. At any time it holds the calls of one case and direction."""

    def __init__(self, library: str, threads: int) -> None:
        self.library = connect(library, threads)
        self.threads = threads
        self.calls: dict[str, Call] = {}
        self.steps = 1

    def version(self) -> str:
        return str(self.library.version)

    def prepare(self, case: Case, direction: str, dtype: str) -> list[str]:
        """Make the operands of a case; the names of the memory formats that it can be called with."""
        self.calls = {}  # the previous case's operands are freed first
        self.calls = self.library.prepare(case, direction, inputs.make(case, dtype))
        self.steps = STEPS_JUDGED if isinstance(case, TrainCase) else 1
        return list(self.calls)

    def result(self, variant: str) -> dict[str, np.ndarray]:
        """What the call computes, as contiguous arrays by name."""
        for _ in range(self.steps):
            values = self.calls[variant]()
        values = values if isinstance(values, tuple) else (values,)
        names = result_names(len(values))
        return {n: np.ascontiguousarray(self.library.to_numpy(v)) for n, v in zip(names, values, strict=True)}

    def time_block(self, variant: str, budget: float) -> tuple[float, int]:
        """The median of as many calls as fit into `budget` seconds, and how many those were.

        A first call is not timed, since another process has just had the caches; if it alone takes longer than the
        budget, caches do not matter and it is the block.
        """
        call, clock = self.calls[variant], time.perf_counter
        gc.collect()
        gc.disable()
        try:
            start = clock()
            call()
            now = clock()
            if now - start > budget:
                return now - start, 1
            durations = []
            deadline = now + budget
            while now < deadline:
                start = clock()
                call()
                now = clock()
                durations.append(now - start)
        finally:
            gc.enable()
        return median(durations), len(durations)

    def extra_bytes(self, variant: str) -> int | None:
        """Memory a call needs beyond its operands and result; see `memory`."""
        call = self.calls[variant]
        call()  # loads code, starts threads
        return memory.extra_bytes(call, self._result_bytes, self.library.release)

    def training_memory(self, variant: str) -> dict[str, float]:
        """What a training step takes from the system; see `memory`."""
        return memory.training(self.calls[variant], self.library.release, self.library.pool_counts)

    def peak(self, dtype: str) -> float:
        """The machine's multiply-add rate in GFLOP/s."""
        from .peak import peak_gflops

        return peak_gflops(dtype)

    def bandwidth(self) -> float:
        """The rate in GB/s at which the machine copies memory."""
        from .peak import bandwidth

        return bandwidth(self.threads)

    def _result_bytes(self, values: Any) -> int:
        values = values if isinstance(values, tuple) else (values,)
        return sum(self.library.to_numpy(value).nbytes for value in values)


class Worker:
    """A running process; `ask` runs a method of its `Session`, and a process that dies is replaced when next asked."""

    def __init__(self, library: str, threads: int, timeout: float = 600.0) -> None:
        self.library = library
        self._threads = threads
        self._timeout = timeout
        self._process: Any = None
        self._pipe: Any = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def pids(self) -> list[int]:
        """The running process, if there is one."""
        return [self._process.pid] if self._process is not None else []

    def ask(self, method: str, *arguments: Any) -> Any:
        """The answer; `Unsupported` and `WorkerFailed` are raised here as they were there."""
        if self._process is None:
            self._start()
        try:
            self._pipe.send((method, arguments))
            if not self._pipe.poll(self._timeout):
                self.stop(kill=True)
                raise WorkerFailed(f"{self.library}: no answer to {method} within {self._timeout:g} s")
            kind, value = self._pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._process.join()
            code = self._process.exitcode
            self.stop(kill=True)
            raise WorkerFailed(f"{self.library}: its process died during {method} (exit code {code})") from None
        if kind == "unsupported":
            raise Unsupported(value)
        if kind == "failed":
            raise WorkerFailed(f"{self.library}: {value}")
        return value

    def stop(self, kill: bool = False) -> None:
        if self._process is None:
            return
        if kill:
            self._process.kill()
        self._pipe.close()  # the other end reads end-of-file and leaves
        self._process.join()
        self._process = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self.library, self._threads), daemon=True)
        with _environment(_SETTINGS | dict.fromkeys(_THREAD_VARIABLES, str(self._threads))):
            self._process.start()
        theirs.close()


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Environment variables for a process that is started meanwhile."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _serve(pipe: Connection, library: str, threads: int) -> None:
    """The worker's main loop: ends when the pipe does."""
    session: Session | None = None
    while True:
        try:
            method, arguments = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            session = session or Session(library, threads)
            pipe.send(("answer", getattr(session, method)(*arguments)))
        except Unsupported as reason:
            pipe.send(("unsupported", str(reason)))
        except ModuleNotFoundError as error:
            pipe.send(("unsupported", f"not installed: {error}"))
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            pipe.send(
                ("failed", f"{type(error).__name__}: {error} ({os.path.basename(place.filename)}:{place.lineno})")
            )
