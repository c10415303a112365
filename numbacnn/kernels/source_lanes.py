"""Which source rows the points of one register tile read: all of them at a time, a point per lane.

What `sources` works out point by point. Where padding is zeros, or is not touched, a tap reads as far from what tap 0
reads for every point of a tile. So a tile's points are found once, as *lanes*: where tap 0 reads along each axis, and
its address. A tap then takes one addition, and per axis one comparison, of vectors.

Lanes stay in registers: written to memory one by one and read as vectors, they would have to reach the cache between.
"""

from __future__ import annotations

from typing import Any

from ._build import intrinsic
from .simd import vector_class
from .tile import MAX_ROWS
from .value import Value

# Lanes of a vector of integers, of which a tile uses `MAX_ROWS`: masks are whole bytes.
LANES = 8 * -(-MAX_ROWS // 8)
ALL_INSIDE = (1 << LANES) - 1


def _kind() -> Any:
    from numba.core import types

    return vector_class()(types.int64, LANES)


def _numbers() -> Any:
    """0, 1, 2, ..."""
    from llvmlite import ir

    return ir.Constant(ir.VectorType(ir.IntType(64), LANES), [ir.IntType(64)(i) for i in range(LANES)])


def _in_all_lanes(builder: Any, number: Any) -> Any:
    return Value(builder, number).broadcast(LANES).llvm


@intrinsic
def address_of(typingctx, pointer):
    """An address as a number, to be kept and read as a pointer again: nothing makes pointers of numbers."""
    from llvmlite import ir
    from numba.core import types

    def codegen(context, builder, signature, args):
        return builder.ptrtoint(args[0], ir.IntType(64))

    return types.int64(pointer), codegen


@intrinsic
def point_numbers(typingctx, points):
    """0, 1, 2, ... for so many points; the number of the last in all lanes that follow."""
    from numba.core import types

    def codegen(context, builder, signature, args):
        last = _in_all_lanes(builder, builder.sub(args[0], args[0].type(1)))
        return builder.select(builder.icmp_signed("<", _numbers(), last), _numbers(), last)

    return _kind()(types.int64), codegen


@intrinsic
def lanes_on(typingctx, lanes, numbers, begin, first, step):
    """`lanes`; but where `numbers` are `begin` and more, ``first + step * (number - begin)``."""
    from numba.core import types

    def codegen(context, builder, signature, args):
        lanes, numbers, *others = args
        integer = others[0].type
        begin, first, step = (_in_all_lanes(builder, number) for number in others)
        # Below LANES, as LLVM is told, for it multiplies 64 bits by 64 in many steps where there are no such vectors.
        further = builder.and_(builder.sub(numbers, begin), _in_all_lanes(builder, integer(LANES - 1)))
        ramp = builder.add(first, builder.mul(step, further))
        return builder.select(builder.icmp_signed(">=", numbers, begin), ramp, lanes)

    return _kind()(_kind(), _kind(), types.int64, types.int64, types.int64), codegen


@intrinsic
def lanes_inside(typingctx, lanes, shift, size):
    """Which of the coordinates in `lanes`, `shift` further, lie between 0 and `size`: a bit for each."""
    from llvmlite import ir
    from numba.core import types

    def codegen(context, builder, signature, args):
        lanes, shift, size = args
        places = builder.add(lanes, _in_all_lanes(builder, shift))
        inside = builder.icmp_unsigned("<", places, _in_all_lanes(builder, size))
        return builder.zext(builder.bitcast(inside, ir.IntType(LANES)), ir.IntType(64))

    return types.int64(_kind(), types.int64, types.int64), codegen


@intrinsic
def chosen_lanes(typingctx, bits, lanes, other):
    """`lanes` where a bit is set, elsewhere the number `other`."""
    from llvmlite import ir
    from numba.core import types

    def codegen(context, builder, signature, args):
        bits, lanes, other = args
        mask = builder.bitcast(builder.trunc(bits, ir.IntType(LANES)), ir.VectorType(ir.IntType(1), LANES))
        return builder.select(mask, lanes, _in_all_lanes(builder, other))

    return _kind()(types.int64, _kind(), types.int64), codegen


@intrinsic
def put_lanes(typingctx, table, slot, lanes, shift):
    """Put `MAX_ROWS` lanes, `shift` further, into successive slots."""
    from llvmlite import ir
    from numba.core import types

    def codegen(context, builder, signature, args):
        table, slot, lanes, shift = args
        used = ir.Constant(ir.VectorType(ir.IntType(32), MAX_ROWS), [ir.IntType(32)(i) for i in range(MAX_ROWS)])
        lanes = builder.add(lanes, _in_all_lanes(builder, shift))
        rows = builder.shuffle_vector(lanes, lanes, used)
        builder.store(rows, builder.bitcast(builder.gep(table, [slot]), rows.type.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(table, types.int64, _kind(), types.int64), codegen
