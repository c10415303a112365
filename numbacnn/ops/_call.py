"""What is left of a call once it has been checked and planned: its results' memory, and its launches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..kernels._program import Program
from . import memory

__all__ = ["Call", "make_call"]


Call = Callable[..., Any]


def make_call(
    run: Callable[..., bool] | Program,
    *rooms: memory.Room,
    convert: tuple[Callable[[np.ndarray], np.ndarray] | None, ...] = (),
) -> Call:
    """The function for calls of an op whose arrays are alike: in type, shape, strides and dtype.

    Whoever keeps one keeps it under a key that holds all of these. They are not looked at again; what is left to find
    out is whether arrays are aligned. It returns the result, or a tuple of several.

    Parameters
    ----------
    run : Program or callable
        ``run(*arrays, *results)``; False, and nothing done, if arrays are not aligned.
    *rooms : Room
        For the results.
    convert : tuple
        For each array None, or what makes of it the array that `run` takes; empty if there is nothing to convert.
    """
    room, others = rooms[0], rooms[1:]
    converts, workspace_bytes = any(convert), 0
    if isinstance(run, Program):
        workspace_bytes = run.workspace_bytes
        if not (others or converts or workspace_bytes):
            return run.returning(room.array, _aligned)
        run = run.run

    def call(*arrays: np.ndarray | None) -> Any:
        while True:
            operands: Any = arrays
            if converts:
                operands = [f(x) if f else x for f, x in zip(convert, arrays, strict=True)]  # type: ignore[arg-type]
            out = room()
            more = [other() for other in others] if others else others
            if workspace_bytes:
                workspace = memory.borrow(workspace_bytes)
                try:
                    done = run(*operands, out, *more, workspace.address)
                finally:
                    memory.give_back(workspace)
            else:
                done = run(*operands, out, *more)
            if done:
                return (out, *more) if others else out
            arrays = tuple(map(_aligned, arrays))

    return call  # which knows nothing of itself: no cycle


def _aligned(x: np.ndarray | None) -> np.ndarray | None:
    """`x` itself or a copy whose elements lie at multiples of their size, with the same strides."""
    if x is None or x.flags.aligned:
        return x
    spans = [stride * (extent - 1) for stride, extent in zip(x.strides, x.shape, strict=True)]
    before = -sum(span for span in spans if span < 0)
    raw = np.zeros(-(-sum(map(abs, spans)) // x.itemsize) + 1, x.dtype)
    copy = np.ndarray(x.shape, x.dtype, raw, before, x.strides)
    np.copyto(copy, x)
    return copy
