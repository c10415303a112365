"""What is done with a convolution's result before anybody reads it: a residual added, an activation applied.

Algorithms whose kernels do so where they write name in ``finishes`` what they do, and their ``forward`` takes a
`Finish`. After the others one more pass does it. Either way the bits are those of separate calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ...kernels import finish as kernels

if TYPE_CHECKING:
    import numpy as np

ACTIVATIONS = kernels.ACTIVATIONS
# Elements of one block, and nanoseconds per element on one core: decides only whether sharing the work pays.
STEP, NS_PER_ELEMENT = 16384, 0.3


class Finish(NamedTuple):
    """``out = activation(out + residual)``."""

    residual: np.ndarray | None  # the memory of an array as large as the result, and in its order
    activation: int  # a number in `ACTIVATIONS`

    def is_for(self, finishes: tuple[str, ...]) -> bool:
        """Whether an algorithm that takes care of these fields can finish."""
        return (self.residual is None or "residual" in finishes) and "activation" in finishes

    def distance(self, out: np.ndarray) -> int:
        """How many elements behind an element of the result its residual lies; 0 if there is none."""
        if self.residual is None:
            return 0
        return (self.residual.ctypes.data - out.ctypes.data) // out.itemsize

    def apply(self, out: np.ndarray) -> None:
        """Finish a whole result in place, in a pass of its own."""
        blocks, cost = -(-out.size // STEP), NS_PER_ELEMENT * out.size
        kernels.finish(blocks, out, out.size, STEP, self.distance(out), self.activation, cost=cost)


NOTHING = Finish(None, 0)
