"""Building LLVM values with Python's operators.

A `Value` is a scalar or vector under construction: ``x * 2.0 + 1.0`` emits two instructions. Functions from Values to a
Value become functions for kernels by `simd.elementwise`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
        # This is what the machine's maximum does, which keeps a NaN in self; the second select, which keeps one in
        # other, costs nothing where other is a constant.
        other = self.like(other)
        larger = (other > self).choose(other, self)
        return other.differs(other).choose(other, larger)

    def minimum(self, other: Any) -> Value:
        other = self.like(other)
        smaller = (other < self).choose(other, self)
        return other.differs(other).choose(other, smaller)

    def broadcast(self, lanes: int) -> Value:
        """A vector with this scalar in every lane."""
        from llvmlite import ir

        i32 = ir.IntType(32)
        undefined = ir.Constant(ir.VectorType(self.llvm.type, lanes), ir.Undefined)
        first = self.builder.insert_element(undefined, self.llvm, ir.Constant(i32, 0))
        order = ir.Constant(ir.VectorType(i32, lanes), [ir.Constant(i32, 0)] * lanes)
        return Value(self.builder, self.builder.shuffle_vector(first, undefined, order))

    def lane(self, number: int) -> Value:
        """The scalar in a lane of this vector."""
        from llvmlite import ir

        return Value(self.builder, self.builder.extract_element(self.llvm, ir.IntType(32)(number)))

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
                return value.lane(0)
        return value
