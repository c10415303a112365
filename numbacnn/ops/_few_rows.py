"""Products of so few rows that the other matrix, which lies column after column, is read where it lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..kernels.conv_pointwise import few_rows_forward
from .conv.bias import zero_row
from .conv.pointwise_plan import Product, has_few_rows, plan_few_rows

if TYPE_CHECKING:
    from ..kernels._operands import Operand
    from ..kernels._program import Step

__all__ = ["few_rows_step"]


def few_rows_step(a: Operand, b: Operand, bias: Operand | None, out: Operand, strides: tuple[int, ...]) -> Step | None:
    """The launch of ``a @ b + bias`` as a convolution of one tap over few positions; None for other products.

    `strides` are those of the rows and columns of `a` and of `b`, in elements. A single row had better be left to
    `columns_dot`, which reads fewer columns at a time.
    """
    (rows, depth), columns, dtype = a.shape, b.shape[1], a.dtype
    a_row, a_depth, b_depth, b_column = strides
    p = Product(rows, 1, depth, columns, b_depth, b_column)
    if not a_depth == b_depth == 1 or not has_few_rows("forward", p, dtype.itemsize):
        return None
    record = plan_few_rows("forward", p, dtype.itemsize)._replace(x_step=a_row)
    launch = few_rows_forward.prepare((dtype,), record.parts, record, cost=p.cost(dtype.itemsize))
    start = zero_row(dtype, record.padded) if bias is None else bias
    return launch.on(a, b, start, out, 0, 0)
