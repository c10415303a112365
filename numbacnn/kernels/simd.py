"""Vector values: LLVM vectors as Numba values inside kernels.

A kernel that must not leave vectorisation to chance works on values of the type ``Vector(element, lanes)``::

    for i in range(0, n, lanes(x)):
        store(out, i, maximum(load(x, i) * scale, 0.0))

==============================================  ============================================================
``lanes(like)``                                 elements per vector (a constant of the machine)
``load(x, i)``, ``store(x, i, v)``              at element `i` of an array or pointer, any alignment
``load_first(x, i, n, fill)``                   the first `n` lanes; memory beyond them is not touched
``store_first(x, i, v, n)``                     likewise
``splat(like, value)``                          every lane `value`; `like`: an array, pointer or vector
``+ - * /``, ``-v``, ``< <= > >= == !=``        lane by lane; a scalar operand is broadcast
``fma(a, b, c)``                                ``a * b + c``, fused where the machine can
``minimum``, ``maximum``, ``select``            NaN in either operand gives NaN; ``select(mask, yes, no)``
``absolute``, ``square_root``                   lane by lane
``reduce_add``, ``reduce_max``                  across the lanes, in a fixed tree order
==============================================  ============================================================

The functions from `fma` on also take scalars, and so do those of `elementary`: LLVM then vectorises the loop around
them. Their result has the type of the first vector among the arguments, else of the first float: ``fma(x, 2.0, 1.0)``
is float32 arithmetic for a float32 `x`. None of these operations is reassociated.

`Value` is the other side: an LLVM value under construction with Python's operators. A function from Values to a Value
becomes a function for kernels with `elementwise`.
"""

from __future__ import annotations

import functools
import inspect
import operator
from typing import TYPE_CHECKING, Any

from ._build import intrinsic
from ._target import target

if TYPE_CHECKING:
    from collections.abc import Callable


# Numba gives its own fast-math flags, reassociation among them, to every instruction that has none. These operations
# must stay in order, for range reductions rely on exact cancellation, so each carries the one harmless flag.
_FLAGS = ("contract",)


class Value:
    """A scalar or vector in LLVM's IR; arithmetic on it emits instructions, numbers become constants of its type."""

    def __init__(self, builder: Any, llvm: Any) -> None:
        self.builder = builder
        self.llvm = llvm

    @property
    def element(self) -> Any:
        return getattr(self.llvm.type, "element", self.llvm.type)

    @property
    def lanes(self) -> int:
        return getattr(self.llvm.type, "count", 1)

    @property
    def itemsize(self) -> int:
        return 4 if str(self.element) == "float" else 8

    @property
    def suffix(self) -> str:
        """How LLVM names this type in its intrinsics: f32, v8f32, ..."""
        scalar = f"f{8 * self.itemsize}"
        return scalar if self.lanes == 1 else f"v{self.lanes}{scalar}"

    def like(self, number: Any) -> Value:
        """`number` in this value's type; a Value passes through."""
        if isinstance(number, Value):
            return number
        from llvmlite import ir

        constant = ir.Constant(self.element, float(number))
        if self.lanes > 1:
            constant = ir.Constant(self.llvm.type, [constant] * self.lanes)
        return Value(self.builder, constant)

    def call(self, name: str, *others: Any) -> Value:
        """LLVM's intrinsic `name` for this type, applied to this value and `others`."""
        from llvmlite import ir
        from numba.core import cgutils

        arguments = [self.llvm, *(self.like(other).llvm for other in others)]
        function_type = ir.FunctionType(self.llvm.type, [self.llvm.type] * len(arguments))
        function = cgutils.get_or_insert_function(self.builder.module, function_type, f"{name}.{self.suffix}")
        return Value(self.builder, self.builder.call(function, arguments))

    def _binary(self, instruction: str, other: Any) -> Value:
        return Value(self.builder, getattr(self.builder, instruction)(self.llvm, self.like(other).llvm, flags=_FLAGS))

    def _compare(self, relation: str, other: Any, unordered: bool = False) -> Value:
        compare = self.builder.fcmp_unordered if unordered else self.builder.fcmp_ordered
        return Value(self.builder, compare(relation, self.llvm, self.like(other).llvm, flags=_FLAGS))

    def __add__(self, other: Any) -> Value:
        return self._binary("fadd", other)

    def __sub__(self, other: Any) -> Value:
        return self._binary("fsub", other)

    def __mul__(self, other: Any) -> Value:
        return self._binary("fmul", other)

    def __truediv__(self, other: Any) -> Value:
        return self._binary("fdiv", other)

    def __radd__(self, other: Any) -> Value:
        return self.like(other) + self

    def __rsub__(self, other: Any) -> Value:
        return self.like(other) - self

    def __rmul__(self, other: Any) -> Value:
        return self.like(other) * self

    def __rtruediv__(self, other: Any) -> Value:
        return self.like(other) / self

    def __neg__(self) -> Value:
        return Value(self.builder, self.builder.fneg(self.llvm))

    def __abs__(self) -> Value:
        return self.call("llvm.fabs")

    def __lt__(self, other: Any) -> Value:
        return self._compare("<", other)

    def __le__(self, other: Any) -> Value:
        return self._compare("<=", other)

    def __gt__(self, other: Any) -> Value:
        return self._compare(">", other)

    def __ge__(self, other: Any) -> Value:
        return self._compare(">=", other)

    def equals(self, other: Any) -> Value:
        return self._compare("==", other)

    def differs(self, other: Any) -> Value:
        """True where the values differ or one is NaN, as ``!=`` in Python."""
        return self._compare("!=", other, unordered=True)

    def fma(self, factor: Any, addend: Any) -> Value:
        """``self * factor + addend``."""
        if target().fma:
            return self.call("llvm.fma", factor, addend)
        return self * factor + addend  # llvm.fma would be a library call per lane here

    def choose(self, yes: Any, no: Any) -> Value:
        """This value is a mask: `yes` where it is true, `no` elsewhere. At least one of them is a Value."""
        kind = yes if isinstance(yes, Value) else no
        return Value(self.builder, self.builder.select(self.llvm, kind.like(yes).llvm, kind.like(no).llvm))

    def maximum(self, other: Any) -> Value:
        # "Greater or unordered" keeps a NaN in self at the price of one instruction; the second select, which keeps
        # one in other, costs nothing where other is a constant.
        other = self.like(other)
        larger = self._compare(">", other, unordered=True).choose(self, other)
        return other.differs(other).choose(other, larger)

    def minimum(self, other: Any) -> Value:
        other = self.like(other)
        smaller = self._compare("<", other, unordered=True).choose(self, other)
        return other.differs(other).choose(other, smaller)

    def broadcast(self, lanes: int) -> Value:
        """A vector with this scalar in every lane."""
        from llvmlite import ir

        i32 = ir.IntType(32)
        undefined = ir.Constant(ir.VectorType(self.llvm.type, lanes), ir.Undefined)
        first = self.builder.insert_element(undefined, self.llvm, ir.Constant(i32, 0))
        order = ir.Constant(ir.VectorType(i32, lanes), [ir.Constant(i32, 0)] * lanes)
        return Value(self.builder, self.builder.shuffle_vector(first, undefined, order))

    def reduce(self, combine: Callable[[Value, Value], Value]) -> Value:
        """`combine` all lanes to one scalar: the upper half into the lower until one is left."""
        from llvmlite import ir

        i32 = ir.IntType(32)
        value = self
        while value.lanes > 1:
            half = value.lanes // 2
            low, high = (
                ir.Constant(ir.VectorType(i32, half), [ir.Constant(i32, start + i) for i in range(half)])
                for start in (0, half)
            )
            halves = [Value(self.builder, self.builder.shuffle_vector(value.llvm, value.llvm, m)) for m in (low, high)]
            value = combine(*halves)
            if half == 1:
                return Value(self.builder, self.builder.extract_element(value.llvm, ir.Constant(i32, 0)))
        return value


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
    from numba.core import types
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
    assert issubclass(vector, types.Type)
    cpu_target.target_context.refresh()  # the kernel that needs these is being compiled right now


def _natural_vector(like: Any) -> Any:
    """The vector type of an array's or pointer's elements; a vector's own type."""
    if isinstance(like, vector_class()):
        return like
    element = like.dtype if hasattr(like, "dtype") else like
    return vector_class()(element, target().lanes(element.bitwidth // 8))


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
def store(typingctx, memory, index, value):
    """Write a vector to the elements from `index` on."""
    from numba.core import types

    kind = _natural_vector(memory)

    def codegen(context, builder, signature, args):
        place = _place(context, builder, memory, *args[:2], kind)
        builder.store(args[2], place, align=kind.element.bitwidth // 8)
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
    """As `load`, but only the first `count` lanes (all, if there are fewer); the others are `fill`, and their memory is not touched."""
    from llvmlite import ir
    from numba.core import types

    kind = _natural_vector(memory)

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

    kind = _natural_vector(memory)

    def codegen(context, builder, signature, args):
        place = _place(context, builder, memory, *args[:2], kind)
        mask = _first_lanes(builder, args[3], kind)
        alignment = ir.Constant(ir.IntType(32), kind.element.bitwidth // 8)
        suffix = Value(builder, args[2]).suffix
        _masked(builder, "store", ir.VoidType(), [args[2], place, alignment, mask], suffix)
        return context.get_dummy_value()

    return types.void(memory, types.int64, kind, types.int64), codegen


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
