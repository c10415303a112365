"""Arrays of which all is known but where they lie: what the launches of a `_program.Program` are made of."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np


class Operand:
    """A contiguous array, or a part of it, whose address is not known yet."""

    __slots__ = ("base", "dtype", "made_by", "offset", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.base = self
        self.made_by: tuple[Callable[..., np.ndarray], tuple[Operand, ...]] | None = None
        self.shape, self.dtype, self.offset = tuple(shape), dtype, 0

    @classmethod
    def made(cls, function: Callable[..., np.ndarray], dtype: np.dtype[Any], *sources: Operand) -> Operand:
        """What `function` makes, of arguments' arrays if any, at every call before anything is launched."""
        made = cls((), dtype)
        made.made_by = function, sources
        return made

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def reshape(self, *shape: int) -> Operand:
        """As of an array; one extent may be -1."""
        if -1 in shape:
            known = -math.prod(shape)
            shape = tuple([self.size // known if extent == -1 else extent for extent in shape])
        return self._part(shape, 0)

    def __getitem__(self, rows: slice) -> Operand:
        """A stretch of the first axis."""
        first, stop, step = rows.indices(self.shape[0])
        if step != 1:
            raise ValueError("an operand is contiguous")
        row = math.prod(self.shape[1:])
        return self._part((max(0, stop - first), *self.shape[1:]), first * row * self.dtype.itemsize)

    def _part(self, shape: tuple[int, ...], offset: int) -> Operand:
        part = Operand(shape, self.dtype)
        part.base, part.offset = self.base, self.offset + offset
        return part


class Distance(NamedTuple):
    """A kernel's integer argument: how many elements behind an operand another lies."""

    here: Operand
    there: Operand
