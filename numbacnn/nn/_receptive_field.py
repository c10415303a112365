"""The receptive field: how much of a net's input one element of a layer's output depends on."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

__all__ = ["ReceptiveField"]


class ReceptiveField(NamedTuple):
    """Per spatial axis of the net's input, the samples seen by an element, and the samples between two neighbours.

    The size is what the layers could see in an endless input; near the border, and where it exceeds the input, part
    of it is padding. None stands for the whole input.

    Examples
    --------
    Two convolutions of kernel 3, the first with stride 2:

    >>> field = ReceptiveField.of_input(1).window((3,), (2,)).window((3,), (1,))
    >>> field.size
    (7,)
    """

    size: tuple[int | None, ...]
    step: tuple[Fraction, ...]

    @classmethod
    def of_input(cls, rank: int) -> ReceptiveField:
        """Of the input itself: one sample."""
        return cls((1,) * rank, (Fraction(1),) * rank)

    def window(self, span: tuple[int, ...], stride: tuple[int | Fraction, ...]) -> ReceptiveField:
        """After windows that span some samples of this layer's input, some samples apart."""
        if len(span) != len(self.size):
            return self.everything()
        sizes = zip(self.size, self.step, span, strict=True)
        return ReceptiveField(
            tuple(None if size is None else size + math.ceil((k - 1) * step) for size, step, k in sizes),
            tuple(step * s for step, s in zip(self.step, stride, strict=True)),
        )

    def upsampled(self, span: tuple[int, ...], stride: tuple[int, ...]) -> ReceptiveField:
        """After a transposed convolution: an output is reached by every `stride`-th of `span` samples."""
        seen = tuple(-(-k // s) for k, s in zip(span, stride, strict=True))
        return self.window(seen, tuple(Fraction(1, s) for s in stride))

    def everything(self) -> ReceptiveField:
        """After a layer whose outputs see all of its input."""
        return self._replace(size=(None,) * len(self.size))

    def joined(self, other: ReceptiveField) -> ReceptiveField:
        """Of a sum or concatenation of two branches: the larger."""
        sizes = zip(self.size, other.size, strict=True)
        return ReceptiveField(
            tuple(None if a is None or b is None else max(a, b) for a, b in sizes),
            tuple(max(a, b) for a, b in zip(self.step, other.step, strict=True)),
        )
