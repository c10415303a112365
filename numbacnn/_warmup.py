"""Compiling every kernel ahead of time, in parallel processes, into the kernel cache."""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from . import kernels
from .kernels import _build

if TYPE_CHECKING:
    from collections.abc import Callable


class Task(NamedTuple):
    """One specialisation of one kernel, named so that another process finds it.

    `occurrence` tells apart kernels of one name, which a function that makes kernels declares.
    """

    kernel: str
    occurrence: int
    binding: tuple[str, ...]


class WarmUp(NamedTuple):
    """What a warm-up did: specialisations in all, those among them compiled now, and failures with their reasons."""

    total: int
    compiled: int
    failed: list[tuple[Task, str]]


def tasks() -> list[Task]:
    """Every specialisation of every kernel of the package."""
    return [Task(*key, tuple(binding)) for key, kernel in _kernels().items() for binding in kernel.bindings()]


def warm_up(processes: int, on_done: Callable[[Task], None] | None = None) -> WarmUp:
    """Load every kernel in one of several new processes, which compiles those that the cache does not hold.

    Parameters
    ----------
    processes : int
        How many compile at the same time.
    on_done : callable, optional
        Called with each task as it is finished.
    """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed

    todo = tasks()
    compiled, failed = 0, []
    # Not fork: a copy of a process that has threads may deadlock.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=processes, mp_context=context) as pool:
        try:
            futures = {pool.submit(_load, task): task for task in todo}
            for future in as_completed(futures):
                task = futures[future]
                if (error := future.exception()) is not None:
                    failed.append((task, str(error).strip().partition("\n")[0] or type(error).__name__))
                else:
                    compiled += future.result()
                if on_done is not None:
                    on_done(task)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return WarmUp(len(todo), compiled, failed)


def _load(task: Task) -> int:
    """Load a kernel; 1 if it was compiled for that, 0 if the cache held it."""
    kernel = _kernels()[task.kernel, task.occurrence]
    before = kernel.compilations
    kernel.load(task.binding)
    return kernel.compilations - before


def _kernels() -> dict[tuple[str, int], _build.Kernel]:
    """All kernels of the package by name and occurrence, after importing every module that declares some."""
    for module in pkgutil.walk_packages(kernels.__path__, kernels.__name__ + "."):
        importlib.import_module(module.name)
    found: dict[tuple[str, int], _build.Kernel] = {}
    seen: Counter[str] = Counter()
    for kernel in _build.registry():
        if kernel.name.startswith(kernels.__name__ + "."):
            found[kernel.name, seen[kernel.name]] = kernel
            seen[kernel.name] += 1
    return found
