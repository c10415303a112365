"""What is left of a call once it has been checked and planned: its result's memory, and its launches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import memory

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Call"]


class Call:
    """The calls of an op whose arrays are alike: in type, shape, strides and dtype.

    Whoever keeps one keeps it under a key that holds all of these. They are not looked at again; what is left to find
    out is whether arrays are aligned.

    Parameters
    ----------
    room : Room
        For the result.
    run : callable
        ``run(*arrays, result, address of workspace)``; False, and nothing done, if arrays are not aligned. As a rule
        `Program.run`.
    workspace_bytes : int
    convert : tuple
        For each array None, or what makes of it the array that `run` takes; empty if there is nothing to convert.
    """

    __slots__ = ("_convert", "_room", "_run", "_workspace_bytes")

    def __init__(
        self,
        room: memory.Room,
        run: Callable[..., bool],
        workspace_bytes: int = 0,
        convert: tuple[Callable[[np.ndarray], np.ndarray] | None, ...] = (),
    ) -> None:
        self._room, self._run, self._workspace_bytes = room, run, workspace_bytes
        self._convert = convert if any(convert) else ()

    def __call__(self, *arrays: np.ndarray | None) -> np.ndarray:
        out = self._room()
        operands = arrays
        if self._convert:
            operands = tuple([f(x) if f else x for f, x in zip(self._convert, arrays, strict=True)])  # type: ignore[arg-type]
        if self._workspace_bytes:
            workspace = memory.borrow(self._workspace_bytes)
            try:
                done = self._run(*operands, out, workspace.address)
            finally:
                memory.give_back(workspace)
        else:
            done = self._run(*operands, out)
        return out if done else self(*map(_aligned, arrays))


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
