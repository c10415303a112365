"""One adapter per library, all with the interface of `Library`; a module here is named after what it measures.

An adapter is `connect(threads) -> Library`. To add a library, write its module; `compare.py --against NAME` finds it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from ..cases import Case

# What is timed. It returns the library's own array, or a tuple in the order of `result_names`.
Call = Callable[[], Any]


class Unsupported(Exception):
    """The library has no such operation (or not for this dtype): an empty cell in the table, not a failure."""


class Library(Protocol):
    """What a measured library must be able to do, inside a process of its own."""

    version: str

    def prepare(self, case: Case, direction: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Call]:
        """One call per memory format to try; conversions of the operands happen here and are not timed."""

    def to_numpy(self, array: Any) -> np.ndarray:
        """A result in logical (N, C, *spatial) order."""

    def release(self) -> None:
        """Give cached memory back to the allocator."""

    def pool_counts(self) -> tuple[int, int] | None:
        """How many requests for memory the library's pool met so far, and how many not; None if it has no pool."""


def connect(name: str, threads: int) -> Library:
    """The adapter `name` of this package, or of any importable module if the name has a dot."""
    module = name if "." in name else f"{__name__}.{name}"
    return importlib.import_module(module).connect(threads)


def result_names(count: int) -> tuple[str, ...]:
    """Names of what a call returned, in order: the reference and every library use the same ones."""
    return ("output",) if count == 1 else ("grad_input", "grad_weight", "grad_bias")[:count]
