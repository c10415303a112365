"""Vector values: LLVM vectors as Numba values inside kernels.

A kernel that must not leave vectorisation to chance works on values of the type ``Vector(element, lanes)``::

    for i in range(0, n, lanes(x)):
        store(out, i, maximum(load(x, i) * scale, 0.0))

==============================================  ============================================================
``lanes(like)``, ``line(like)``                 elements per vector, and per cache line (constants of the machine)
``load(x, i)``, ``store(x, i, v)``              at element `i` of an array or pointer, any alignment
``stream(x, i, v)``                             past the caches, where elements are whole vectors from address 0 on
``load_first(x, i, n, fill)``                   the first `n` lanes; memory beyond them is not touched
``store_first(x, i, v, n)``                     likewise
``load_like(v, x, i)``                          as many elements as the vector `v` has
``wide(like)``                                  zeros in `WIDE` vectors' lanes, for code that computes that many at a
                                                time: one's latency is the others' time
``broad(like)``                                 zeros in an eighth of the registers, for values that are used often
``half(like)``, ``quarter``, ``eighth``         zeros in such a part of a vector's lanes, at least one
``splat(like, value)``                          every lane `value`; `like`: an array, pointer or vector
``+ - * /``, ``-v``, ``< <= > >= == !=``        lane by lane; a scalar operand is broadcast
``fma(a, b, c)``                                ``a * b + c``, fused where the machine can
``minimum``, ``maximum``, ``select``            NaN in either operand gives NaN; ``select(mask, yes, no)``
``absolute``, ``square_root``                   lane by lane
``reduce_add``, ``reduce_max``                  across the lanes, in a fixed tree order
``swapped_1(v)``, ``swapped_2``, ``swapped_4``  each lane has its neighbour's value, that far away in its group of
                                                twice as many lanes
``interleaved(a, b)``                           lanes of two vectors in turn, in a vector of twice as many
==============================================  ============================================================

The functions from `fma` on also take scalars, and so do those of `elementary`: LLVM then vectorises the loop around
them. Their result has the type of the first vector among the arguments, else of the first float: ``fma(x, 2.0, 1.0)``
is float32 arithmetic for a float32 `x`. None of these operations is reassociated.

`elementwise` makes more such functions, from ones that emit their instructions (see `value`).
"""

from __future__ import annotations

import functools
import inspect
import operator
from typing import TYPE_CHECKING, Any

from ._build import intrinsic
from ._target import LINE_BYTES, target
from .value import Value

if TYPE_CHECKING:
    from collections.abc import Callable


WIDE = 4


@functools.cache
def vector_class() -> Any:
    """Numba's type of vector values (made at first use, because it needs Numba)."""
    from llvmlite import ir
    from numba.core import types
    from numba.extending import lower_cast, models, register_model

    class Vector(types.Type):
        """`lanes` values of the Numba type `element` in one register."""

        def __init__(self, element: Any, lanes: int) -> None:
            self.element = element
            self.lanes = lanes
            super().__init__(name=f"Vector({element}, {lanes})")

    @register_model(Vector)
    class VectorModel(models.PrimitiveModel):
        def __init__(self, manager: Any, vector: Any) -> None:
            element = manager.lookup(vector.element).get_value_type()
            super().__init__(manager, vector, ir.VectorType(element, vector.lanes))

    @lower_cast(types.Number, Vector)
    def broadcast(context: Any, builder: Any, source: Any, result: Any, value: Any) -> Any:
        scalar = context.cast(builder, value, source, result.element)
        return Value(builder, scalar).broadcast(result.lanes).llvm

    _register_operators(Vector)
    return Vector


_ARITHMETIC = (
    (operator.add, operator.iadd),
    (operator.sub, operator.isub),
    (operator.mul, operator.imul),
    (operator.truediv, operator.itruediv),
)
_RELATIONS = {
    operator.lt: operator.lt,
    operator.le: operator.le,
    operator.gt: operator.gt,
    operator.ge: operator.ge,
    operator.eq: Value.equals,
    operator.ne: Value.differs,
}


def _register_operators(vector: Any) -> None:
    """Teach Numba the operators of vectors; a scalar operand is cast, which broadcasts it."""
    from numba.core.imputils import lower_builtin
    from numba.core.registry import cpu_target
    from numba.core.typing.templates import AbstractTemplate, infer_global, signature

    def declare(function: Any, emit: Callable[..., Value], operands: int, mask: bool) -> None:
        class Template(AbstractTemplate):
            def generic(self, args: Any, kws: Any) -> Any:
                if len(args) == operands and any(isinstance(arg, vector) for arg in args):
                    kind = _common_type(args)
                    return signature(_mask_type(kind) if mask else kind, *[kind] * operands)
                return None

        infer_global(function)(Template)

        @lower_builtin(function, *[vector] * operands)
        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return emit(*(Value(builder, arg) for arg in args)).llvm

    for plain, in_place in _ARITHMETIC:
        for function in (plain, in_place):
            declare(function, plain, 2, False)
    declare(operator.neg, operator.neg, 1, False)
    for function, emit in _RELATIONS.items():
        declare(function, emit, 2, True)
    cpu_target.target_context.refresh()  # the kernel that needs these is being compiled right now


def _natural_vector(like: Any) -> Any:
    """The vector type of an array's or pointer's elements; a vector's own type."""
    if isinstance(like, vector_class()):
        return like
    element = like.dtype if hasattr(like, "dtype") else like
    return vector_class()(element, target().lanes(element.bitwidth // 8))


def _vector_of(value: Any, memory: Any) -> Any:
    """The type of a vector; that of the memory's vectors if `value` is a number."""
    return value if isinstance(value, vector_class()) else _natural_vector(memory)


def _common_type(arguments: Any) -> Any:
    """The type an operation works in: that of its first vector, else of its first float."""
    from numba.core import types

    for kind in (vector_class(), types.Float):
        for argument in arguments:
            if isinstance(argument, kind) and getattr(argument, "element", None) is not types.boolean:
                return argument
    raise TypeError(f"no float or vector among {arguments}")


def _mask_type(kind: Any) -> Any:
    from numba.core import types

    return vector_class()(types.boolean, kind.lanes) if isinstance(kind, vector_class()) else types.boolean


def elementwise(emit: Callable[..., Value]) -> Any:
    """A function for kernels, of scalars or vectors, from a function that emits it from Values."""
    operands = inspect.signature(emit).parameters
    parameters = len(operands)

    @functools.wraps(emit)
    def typed(typingctx: Any, *arguments: Any) -> Any:
        if len(arguments) != parameters:
            raise TypeError(f"{emit.__name__} takes {parameters} arguments, got {len(arguments)}")
        kind = _common_type(arguments)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return emit(*(Value(builder, arg) for arg in args)).llvm

        return kind(*[kind] * parameters), codegen

    # Numba binds a call's arguments to the parameters after `typingctx`.
    context_parameter = inspect.Parameter("typingctx", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    typed.__signature__ = inspect.Signature([context_parameter, *operands.values()])  # type: ignore[attr-defined]
    return intrinsic(typed)


@elementwise
def fma(a, b, c):
    """``a * b + c``."""
    return a.fma(b, c)


@elementwise
def minimum(a, b):
    """The smaller of `a` and `b`; NaN if one is NaN."""
    return a.minimum(b)


@elementwise
def maximum(a, b):
    """The larger of `a` and `b`; NaN if one is NaN."""
    return a.maximum(b)


@elementwise
def absolute(a):
    """``|a|``."""
    return abs(a)


@elementwise
def square_root(a):
    """The square root, correctly rounded."""
    return a.call("llvm.sqrt")


@intrinsic
def select(typingctx, mask, yes, no):
    """`yes` where `mask` is true, `no` elsewhere."""
    kind = _common_type((yes, no))

    def codegen(context, builder, signature, args):
        return builder.select(*args)

    return kind(_mask_type(kind), kind, kind), codegen


@intrinsic
def lanes(typingctx, like):
    """Elements per vector, for the elements of an array, pointer or vector."""
    from numba.core import types

    count = _natural_vector(like).lanes

    def codegen(context, builder, signature, args):
        return context.get_constant(types.int64, count)

    return types.int64(like), codegen


@intrinsic
def line(typingctx, like):
    """Elements of a cache line, for the elements of an array, pointer or vector."""
    from numba.core import types

    count = LINE_BYTES * 8 // _natural_vector(like).element.bitwidth

    def codegen(context, builder, signature, args):
        return context.get_constant(types.int64, count)

    return types.int64(like), codegen


def _zeros(lanes: Callable[[int], int]) -> Any:
    """An intrinsic: zeros in a number of lanes that depends on how many a vector has."""

    def zeros(typingctx: Any, like: Any) -> Any:
        from llvmlite import ir

        natural = _natural_vector(like)
        kind = vector_class()(natural.element, lanes(natural.lanes))

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return ir.Constant(context.get_value_type(kind), None)

        return kind(like), codegen

    return intrinsic(zeros)


wide = _zeros(lambda n: WIDE * n)
broad = _zeros(lambda n: target().registers // 8 * n)
half, quarter, eighth = (_zeros(lambda n, d=d: max(n // d, 1)) for d in (2, 4, 8))


@intrinsic
def splat(typingctx, like, value):
    """The vector whose every lane is `value`."""
    kind = _natural_vector(like)

    def codegen(context, builder, signature, args):
        return Value(builder, args[1]).broadcast(kind.lanes).llvm

    return kind(like, kind.element), codegen


def _place(context: Any, builder: Any, memory: Any, value: Any, index: Any, kind: Any) -> Any:
    """Pointer to the vector that starts at element `index`."""
    from numba.core import types

    data = context.make_array(memory)(context, builder, value).data if isinstance(memory, types.Array) else value
    return builder.bitcast(builder.gep(data, [index]), context.get_value_type(kind).as_pointer())


@intrinsic
def load(typingctx, memory, index):
    """The vector that starts at element `index`."""
    from numba.core import types

    kind = _natural_vector(memory)

    def codegen(context, builder, signature, args):
        place = _place(context, builder, memory, *args, kind)
        return builder.load(place, align=kind.element.bitwidth // 8)

    return kind(memory, types.int64), codegen


@intrinsic
def load_like(typingctx, like, memory, index):
    """As many elements as the vector `like` has, from element `index` on."""
    from numba.core import types

    kind = _natural_vector(like)

    def codegen(context, builder, signature, args):
        place = _place(context, builder, memory, *args[1:], kind)
        return builder.load(place, align=kind.element.bitwidth // 8)

    return kind(like, memory, types.int64), codegen


@intrinsic
def store(typingctx, memory, index, value):
    """Write a vector to the elements from `index` on."""
    from numba.core import types

    kind = _vector_of(value, memory)

    def codegen(context, builder, signature, args):
        place = _place(context, builder, memory, *args[:2], kind)
        builder.store(args[2], place, align=kind.element.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(memory, types.int64, kind), codegen


@intrinsic
def stream(typingctx, memory, index, value):
    """As `store`, for results that no cache can hold until they are read: lines are not fetched to be overwritten.

    The address must be a multiple of the size of a machine's vector. Other threads see what was written after the next
    atomic operation of this one, of which the drivers have one behind every block.
    """
    from llvmlite import ir
    from numba.core import types

    kind = _vector_of(value, memory)

    alignment = _natural_vector(memory).lanes * kind.element.bitwidth // 8

    def codegen(context, builder, signature, args):
        place = _place(context, builder, memory, *args[:2], kind)
        instruction = builder.store(args[2], place, align=alignment)
        instruction.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))
        return context.get_dummy_value()

    return types.void(memory, types.int64, kind), codegen


def _masked(builder: Any, name: str, result: Any, arguments: list[Any], suffix: str) -> Any:
    from llvmlite import ir
    from numba.core import cgutils

    function_type = ir.FunctionType(result, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, function_type, f"llvm.masked.{name}.{suffix}.p0")
    return builder.call(function, arguments)


def _first_lanes(builder: Any, count: Any, kind: Any) -> Any:
    """The mask of the first `count` lanes; compared in the elements' width so that it needs no conversion."""
    from llvmlite import ir

    integer = ir.IntType(kind.element.bitwidth)
    if kind.element.bitwidth < 64:
        count = builder.trunc(count, integer)
    numbers = ir.Constant(ir.VectorType(integer, kind.lanes), [ir.Constant(integer, i) for i in range(kind.lanes)])
    return builder.icmp_signed("<", numbers, Value(builder, count).broadcast(kind.lanes).llvm)


@intrinsic
def load_first(typingctx, memory, index, count, fill):
    """As `load`, but only the first `count` lanes; the others are `fill`, and their memory is not touched.

    A count above the number of lanes means all of them.
    """
    from llvmlite import ir
    from numba.core import types

    kind = _vector_of(fill, memory)

    def codegen(context, builder, signature, args):
        place = _place(context, builder, memory, *args[:2], kind)
        mask = _first_lanes(builder, args[2], kind)
        alignment = ir.Constant(ir.IntType(32), kind.element.bitwidth // 8)
        suffix = Value(builder, args[3]).suffix
        return _masked(builder, "load", args[3].type, [place, alignment, mask, args[3]], suffix)

    return kind(memory, types.int64, types.int64, kind), codegen


@intrinsic
def store_first(typingctx, memory, index, value, count):
    """As `store`, but only the first `count` lanes."""
    from llvmlite import ir
    from numba.core import types

    kind = _vector_of(value, memory)

    def codegen(context, builder, signature, args):
        place = _place(context, builder, memory, *args[:2], kind)
        mask = _first_lanes(builder, args[3], kind)
        alignment = ir.Constant(ir.IntType(32), kind.element.bitwidth // 8)
        suffix = Value(builder, args[2]).suffix
        _masked(builder, "store", ir.VoidType(), [args[2], place, alignment, mask], suffix)
        return context.get_dummy_value()

    return types.void(memory, types.int64, kind, types.int64), codegen


@intrinsic
def load_spread(typingctx, memory, index, bits, fill):
    """The elements from `index` on in the lanes whose `bits` are set, one after the other; the others are `fill`.

    One instruction beside AVX-512; elsewhere LLVM makes a branch of each lane.
    """
    from llvmlite import ir
    from numba.core import cgutils, types

    kind = _vector_of(fill, memory)

    def codegen(context, builder, signature, args):
        mask_type = ir.VectorType(ir.IntType(1), kind.lanes)
        mask = builder.bitcast(builder.trunc(args[2], ir.IntType(kind.lanes)), mask_type)
        place = builder.gep(args[0], [args[1]])
        function_type = ir.FunctionType(args[3].type, [place.type, mask_type, args[3].type])
        name = f"llvm.masked.expandload.{Value(builder, args[3]).suffix}"
        function = cgutils.get_or_insert_function(builder.module, function_type, name)
        return builder.call(function, [place, mask, args[3]])

    return kind(memory, types.int64, types.int64, kind), codegen


def _swapped(distance: int) -> Any:
    """An intrinsic: lane i of the result is lane ``i ^ distance`` of the vector, which has more lanes than that."""

    def swapped(typingctx: Any, vector: Any) -> Any:
        from llvmlite import ir

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            i32 = ir.IntType(32)
            order = [i32(i ^ distance) for i in range(vector.lanes)]
            return builder.shuffle_vector(args[0], args[0], ir.Constant(ir.VectorType(i32, vector.lanes), order))

        return vector(vector), codegen

    return intrinsic(swapped)


swapped_1, swapped_2, swapped_4 = _swapped(1), _swapped(2), _swapped(4)


def _in_turn(parts: int) -> Any:
    """An intrinsic: the lanes of a vector's `parts` equal parts in turn."""

    def in_turn(typingctx: Any, vector: Any) -> Any:
        from llvmlite import ir

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            i32, size = ir.IntType(32), max(1, vector.lanes // parts)
            order = [i32((i % parts * size + i // parts) % vector.lanes) for i in range(vector.lanes)]
            return builder.shuffle_vector(args[0], args[0], ir.Constant(ir.VectorType(i32, vector.lanes), order))

        return vector(vector), codegen

    return intrinsic(in_turn)


in_turn_2, in_turn_4 = _in_turn(2), _in_turn(4)


@intrinsic
def interleaved(typingctx, a, b):
    """A vector of twice as many lanes: those of `a` and `b` in turn."""
    from llvmlite import ir

    def codegen(context, builder, signature, args):
        i32 = ir.IntType(32)
        order = [i32(i // 2 + i % 2 * a.lanes) for i in range(2 * a.lanes)]
        return builder.shuffle_vector(*args, ir.Constant(ir.VectorType(i32, 2 * a.lanes), order))

    return vector_class()(a.element, 2 * a.lanes)(a, b), codegen


@intrinsic
def reduce_add(typingctx, vector):
    """The sum of the lanes."""

    def codegen(context, builder, signature, args):
        return Value(builder, args[0]).reduce(operator.add).llvm

    return vector.element(vector), codegen


@intrinsic
def reduce_max(typingctx, vector):
    """The largest lane; NaN if one is NaN."""

    def codegen(context, builder, signature, args):
        return Value(builder, args[0]).reduce(Value.maximum).llvm

    return vector.element(vector), codegen
