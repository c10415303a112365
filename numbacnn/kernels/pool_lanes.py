"""Moving lanes between vectors and memory in pooling, and the window offset that each lane of a max pool carries.

Pooling has hardly any arithmetic, so its kernels are as fast as lanes come and go. Which elements the lanes are is
said by a *spread*, of one of two types, so that a kernel contains the code of its own case alone:

* an integer: lanes side by side, which is the case that must be fast. The value is two machine vectors, the second
  `spread` elements after the first, because one hides the latency of the other's comparisons and additions.
* a pair (stride, count): one vector's first `count` lanes only, `stride` elements apart.
"""

from __future__ import annotations

from ._build import intrinsic
from .simd import _first_lanes, _natural_vector, vector_class
from .value import Value


def _vector(element, like):
    """The type of a vector with as many lanes as `like`."""
    return vector_class()(element, like.lanes)


def _offset_kind(like):
    """The type of one window offset per lane of `like`: integers as wide as its floats, so that masks fit both."""
    from numba.core import types

    return _vector(getattr(types, f"int{like.element.bitwidth}"), like)


def _places(builder, memory, index, spread, number):
    """Pointers to the lanes, and their numbers. Lanes from `count` on are replaced by the last one before."""
    from llvmlite import ir

    stride, count = (builder.extract_value(spread, i) for i in range(2))
    start = builder.gep(memory, [index])
    last = builder.sub(count, count.type(1))
    for lane in range(number):
        lane = last.type(lane)
        lane = builder.select(builder.icmp_signed("<", lane, last), lane, last)
        yield builder.gep(start, [builder.mul(lane, stride)]), builder.trunc(lane, ir.IntType(32))


def _halves(builder, memory, index, spread, half):
    """Pointers to the two vectors of a value."""
    start = builder.gep(memory, [index])
    return [builder.bitcast(place, half.as_pointer()) for place in (start, builder.gep(start, [spread]))]


def _shuffle(builder, first, second, numbers):
    from llvmlite import ir

    i32 = ir.IntType(32)
    order = ir.Constant(ir.VectorType(i32, len(numbers)), [i32(number) for number in numbers])
    return builder.shuffle_vector(first, second, order)


def _load(builder, memory, index, spread, kind, side_by_side):
    from llvmlite import ir

    if side_by_side:
        half = ir.VectorType(kind.element, kind.count // 2)
        first, second = (builder.load(place, align=1) for place in _halves(builder, memory, index, spread, half))
        return _shuffle(builder, first, second, range(kind.count))
    vector = ir.Constant(kind, ir.Undefined)
    for lane, (place, _) in enumerate(_places(builder, memory, index, spread, kind.count)):
        vector = builder.insert_element(vector, builder.load(place), ir.IntType(32)(lane))
    return vector


def _store(builder, memory, index, spread, vector, side_by_side):
    from llvmlite import ir

    number = vector.type.count
    if side_by_side:
        half = ir.VectorType(vector.type.element, number // 2)
        ranges = range(number // 2), range(number // 2, number)
        for place, lanes in zip(_halves(builder, memory, index, spread, half), ranges, strict=True):
            builder.store(_shuffle(builder, vector, vector, lanes), place, align=1)
        return
    for place, lane in _places(builder, memory, index, spread, number):
        builder.store(builder.extract_element(vector, lane), place)


def _is_side_by_side(spread):
    from numba.core import types

    return isinstance(spread, types.Integer)


def _resize(builder, value, kind):
    """Integers in another width; they are never negative, and fit."""
    width, wanted = (getattr(t, "element", t).width for t in (value.type, kind))
    if width == wanted:
        return value
    return builder.trunc(value, kind) if width > wanted else builder.zext(value, kind)


def _lanes_kind(x, spread):
    """The type of the vectors that hold elements of `x`."""
    kind = _natural_vector(x)
    return vector_class()(kind.element, kind.lanes * (2 if _is_side_by_side(spread) else 1))


@intrinsic
def zeros(typingctx, x, spread):
    """A vector of zeros for elements of `x`."""
    from llvmlite import ir

    kind = _lanes_kind(x, spread)

    def codegen(context, builder, signature, args):
        return ir.Constant(context.get_value_type(kind), None)

    return kind(x, spread), codegen


@intrinsic
def load_lanes(typingctx, x, index, spread):
    """The vector of the lanes from element `index` of `x` on."""
    kind = _lanes_kind(x, spread)

    def codegen(context, builder, signature, args):
        return _load(builder, *args, context.get_value_type(kind), _is_side_by_side(spread))

    return kind(x, index, spread), codegen


@intrinsic
def store_lanes(typingctx, x, index, spread, vector):
    """Write the lanes of `vector` to element `index` of `x` on."""
    from numba.core import types

    def codegen(context, builder, signature, args):
        _store(builder, *args, _is_side_by_side(spread))
        return context.get_dummy_value()

    return types.void(x, index, spread, vector), codegen


@intrinsic
def load_offsets(typingctx, offsets, index, spread, like):
    """`load_lanes` for window offsets, as many as `like` has lanes."""
    kind = _vector(offsets.dtype, like)

    def codegen(context, builder, signature, args):
        return _load(builder, *args[:3], context.get_value_type(kind), _is_side_by_side(spread))

    return kind(offsets, index, spread, like), codegen


@intrinsic
def store_offsets(typingctx, offsets, index, spread, vector):
    """`store_lanes` for window offsets, which are narrowed to the width that memory keeps them in."""
    from numba.core import types

    kind = _vector(offsets.dtype, vector)

    def codegen(context, builder, signature, args):
        offsets, index, spread_value, vector = args
        narrow = _resize(builder, vector, context.get_value_type(kind))
        _store(builder, offsets, index, spread_value, narrow, _is_side_by_side(spread))
        return context.get_dummy_value()

    return types.void(offsets, index, spread, vector), codegen


@intrinsic
def widen_offsets(typingctx, offsets, like):
    """Window offsets as integers of the width of the floats in the vector `like`."""
    kind = _offset_kind(like)

    def codegen(context, builder, signature, args):
        return _resize(builder, args[0], context.get_value_type(kind))

    return kind(offsets, like), codegen


@intrinsic
def splat_offset(typingctx, like, number):
    """The window offset `number` for every lane of the vector `like`."""
    kind = _offset_kind(like)

    def codegen(context, builder, signature, args):
        scalar = _resize(builder, args[1], context.get_value_type(kind.element))
        return Value(builder, scalar).broadcast(kind.lanes).llvm

    return kind(like, number), codegen


@intrinsic
def same_offset(typingctx, a, b):
    """The mask of the lanes in which two vectors of window offsets are equal."""
    from numba.core import types

    return _vector(types.boolean, a)(a, b), lambda context, builder, signature, args: builder.icmp_signed("==", *args)


@intrinsic
def beats(typingctx, candidate, best):
    """The mask of the lanes in which `candidate` replaces `best`: it is larger, or the first NaN."""
    from numba.core import types

    def codegen(context, builder, signature, args):
        larger_or_nan = builder.fcmp_unordered(">", *args)
        return builder.and_(larger_or_nan, builder.fcmp_ordered("ord", args[1], args[1]))

    return _vector(types.boolean, candidate)(candidate, best), codegen


@intrinsic
def drop_lanes(typingctx, value, count, spread):
    """The value with the first `count` lanes of each of its vectors set to zero."""
    from llvmlite import ir

    vectors = 2 if _is_side_by_side(spread) else 1
    kind = vector_class()(value.element, value.lanes // vectors)

    def codegen(context, builder, signature, args):
        mask = _first_lanes(builder, args[1], kind)
        mask = _shuffle(builder, mask, mask, [*range(kind.lanes)] * vectors)
        return builder.select(mask, ir.Constant(args[0].type, None), args[0])

    return value(value, count, spread), codegen
