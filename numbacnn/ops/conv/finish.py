"""What is done with a convolution's result before anybody reads it: a residual added, an activation applied.

Algorithms whose kernels do so where they write name in ``finishes`` what they do, and their ``forward`` takes a
`Finish`. After the others one more pass does it. Either way the bits are those of separate calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ...kernels import finish as kernels
from ...kernels._operands import Distance

if TYPE_CHECKING:
    from ...kernels._operands import Operand
    from ...kernels._program import Step

ACTIVATIONS = kernels.ACTIVATIONS
# Elements of one block, and nanoseconds per element on one core: decides only whether sharing the work pays.
STEP, NS_PER_ELEMENT = 16384, 0.3


class Finish(NamedTuple):
    """``out = activation(out + residual)``."""

    residual: Operand | None  # as large as the result, and in its order
    activation: int  # a number in `ACTIVATIONS`

    def is_for(self, finishes: tuple[str, ...]) -> bool:
        """Whether an algorithm that takes care of these fields can finish."""
        return (self.residual is None or "residual" in finishes) and "activation" in finishes

    def distance(self, out: Operand) -> Distance | int:
        """How many elements behind an element of the result its residual lies; 0 if there is none."""
        return 0 if self.residual is None else Distance(out, self.residual)

    def apply(self, out: Operand) -> Step:
        """Finish a whole result in place, in a pass of its own."""
        blocks, cost = -(-out.size // STEP), NS_PER_ELEMENT * out.size
        return kernels.finish.on(blocks, out, out.size, STEP, self.distance(out), self.activation, cost=cost)


NOTHING = Finish(None, 0)
