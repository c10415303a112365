"""Emitting LLVM's vector IR: what register tiles are written with.

What a tile sums up goes through loops and branches in one of two ways. `Emitter.carry` and `Emitter.either` hand it
on as lists of Values: what the loop of a matrix product needs, whose body is one straight piece of code. Where pieces
of code jump around the sums (`Emitter.choose`, `Emitter.each`), a sum is an `Emitter.variable`, and `Emitter.loop` a
plain loop. Both become registers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from .simd import vector_class
from .value import Value


def _unrolling(module: Any, *wish: Any) -> Any:
    """A loop's metadata that says how it is unrolled; by LLVM's rule it names itself first."""
    loop = module.add_metadata([module.add_metadata(list(wish)), module.add_metadata([str(len(module.metadata))])])
    loop.operands = (loop, *loop.operands[:1])
    return loop


class Emitter:
    """Vector IR over pointers to one element type."""

    def __init__(self, context: Any, builder: Any, element: Any) -> None:
        from llvmlite import ir

        from ._target import target

        self.ir, self.builder = ir, builder
        self.itemsize = element.bitwidth // 8
        self.lanes = target().lanes(self.itemsize)
        self.vector = context.get_value_type(vector_class()(element, self.lanes))
        self.scalar = context.get_value_type(element)
        self.pointer = self.scalar.as_pointer()
        self.zero = Value(builder, ir.Constant(self.vector, None))
        self.i32, self.i64 = ir.IntType(32), ir.IntType(64)

    def times(self, value: Any, factor: int) -> Any:
        return self.builder.mul(value, self.i64(factor))

    def at(self, pointer: Any, index: Any) -> Any:
        return self.builder.gep(pointer, [self.i64(index) if isinstance(index, int) else index])

    def load(self, pointer: Any, vector: int = 0, mask: Any = None) -> Value:
        """Vector number `vector` from `pointer` on; zeros where `mask` is false, whose memory is not touched."""
        place = self.builder.bitcast(self.at(pointer, vector * self.lanes), self.vector.as_pointer())
        if mask is None:
            return Value(self.builder, self.builder.load(place, align=self.itemsize))
        arguments = [place, self.i32(self.itemsize), mask, self.zero.llvm]
        return Value(self.builder, self.call(f"llvm.masked.load.{self.zero.suffix}.p0", self.vector, arguments))

    def element(self, pointer: Any) -> Value:
        return Value(self.builder, self.builder.load(pointer, align=self.itemsize))

    def broadcast(self, pointer: Any, count: int = 1) -> Value:
        """The element at `pointer`, in all lanes; or `count` elements from there on, over and over."""
        if count == 1:
            return self.element(pointer).broadcast(self.lanes)
        ir, builder = self.ir, self.builder
        place = builder.bitcast(pointer, ir.VectorType(self.zero.element, count).as_pointer())
        few = builder.load(place, align=self.itemsize)
        order = ir.Constant(ir.VectorType(self.i32, self.lanes), [self.i32(i % count) for i in range(self.lanes)])
        return Value(builder, builder.shuffle_vector(few, few, order))

    def in_turn(self, value: Value, parts: int) -> Value:
        """The lanes of a vector's `parts` equal parts in turn; with as many as it has lanes in a part, the way back."""
        if parts in (1, self.lanes):
            return value
        size = self.lanes // parts
        order = [self.i32(i % parts * size + i // parts) for i in range(self.lanes)]
        mask = self.ir.Constant(self.ir.VectorType(self.i32, self.lanes), order)
        return Value(self.builder, self.builder.shuffle_vector(value.llvm, value.llvm, mask))

    def sum_of_halves(self, value: Value) -> Value:
        """The upper half of the lanes added to the lower one, in both."""
        order = [self.i32((i + self.lanes // 2) % self.lanes) for i in range(self.lanes)]
        mask = self.ir.Constant(self.ir.VectorType(self.i32, self.lanes), order)
        return value + Value(self.builder, self.builder.shuffle_vector(value.llvm, value.llvm, mask))

    def store_element(self, value: Value, pointer: Any) -> None:
        self.builder.store(value.llvm, pointer, align=self.itemsize)

    def store(self, value: Value, pointer: Any, vector: int = 0, mask: Any = None) -> None:
        place = self.builder.bitcast(self.at(pointer, vector * self.lanes), self.vector.as_pointer())
        if mask is None:
            self.builder.store(value.llvm, place, align=self.itemsize)
            return
        arguments = [value.llvm, place, self.i32(self.itemsize), mask]
        self.call(f"llvm.masked.store.{self.zero.suffix}.p0", self.ir.VoidType(), arguments)

    def prefetch(self, pointer: Any, write: bool = False) -> None:
        """Ask for the cache line at `pointer`, which need not be memory of ours."""
        place = self.builder.bitcast(pointer, self.ir.IntType(8).as_pointer())
        self.call("llvm.prefetch.p0", self.ir.VoidType(), [place, *(self.i32(n) for n in (int(write), 3, 1))])

    def prefetch_each(self, count: Any, pointer: Any, step: Any, write: bool = False) -> None:
        """Ask for the cache lines of so many elements, from `pointer` on and `step` elements apart."""
        if isinstance(count, int):
            for i in range(count):
                self.prefetch(self.at(pointer, self.times(step, i)), write)
        else:
            with self.loop(count) as i:
                self.prefetch(self.at(pointer, self.builder.mul(i, step)), write)

    def mask(self, lanes: Any, vector: int = 0) -> Any:
        """True in the lanes of vector number `vector` that lie below `lanes`."""
        wide = self.ir.VectorType(self.i64, self.lanes)
        numbers = self.ir.Constant(wide, [self.i64(vector * self.lanes + i) for i in range(self.lanes)])
        return self.builder.icmp_signed("<", numbers, Value(self.builder, lanes).broadcast(self.lanes).llvm)

    def call(self, name: str, result: Any, arguments: list[Any]) -> Any:
        """LLVM's intrinsic `name`."""
        from numba.core import cgutils

        function_type = self.ir.FunctionType(result, [a.type for a in arguments])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, function_type, name), arguments)

    def keep_order(self) -> None:
        """Load nothing in advance beyond this place, as LLVM may do until registers spill. Emits no instruction."""
        self.builder.fence("seq_cst", targetscope="singlethread")

    def hidden(self, pointer: Any) -> Any:
        """The same pointer, of which LLVM does not know how it was made: it keeps none of those on the way here."""
        return self.builder.asm(self.ir.FunctionType(pointer.type, [pointer.type]), "", "=r,0", [pointer], False)

    def behind(self, places: list[Any], pointer: Any) -> Any:
        """The same pointer, for loads that LLVM must leave behind what some variables have summed up so far.

        It may else put multiply-adds off, and load meanwhile, until registers spill. Emits no instruction. Only beside
        AVX-512, whose vectors are the registers of its assembler whatever width is chosen.
        """
        from ._target import target

        if target().isa != "avx512":
            return pointer
        sums = [self.value(place).llvm for place in places]
        kind = self.ir.FunctionType(pointer.type, [pointer.type, *(value.type for value in sums)])
        return self.builder.asm(kind, "", "=r,0" + ",v" * len(sums), [pointer, *sums], False)

    def slot(self, table: Any, index: Any, kind: Any = None) -> Any:
        """What a table keeps at `index`: an integer, or a pointer of the type `kind`."""
        place = self.at(table, index)
        return self.builder.load(place if kind is None else self.builder.bitcast(place, kind.as_pointer()))

    @contextlib.contextmanager
    def loop(self, count: Any) -> Iterator[Any]:
        """``for index in range(count)``, not unrolled: bodies are long, and counts small."""
        builder = self.builder
        head, body, done = (builder.append_basic_block(name) for name in ("loop", "body", "done"))
        before = builder.block
        builder.branch(head)
        builder.position_at_end(head)
        index = builder.phi(self.i64)
        index.add_incoming(self.i64(0), before)
        builder.cbranch(builder.icmp_signed("<", index, count), body, done)
        builder.position_at_end(body)
        yield index
        index.add_incoming(builder.add(index, self.i64(1)), builder.block)
        builder.branch(head).set_metadata("llvm.loop", _unrolling(builder.module, "llvm.loop.unroll.disable"))
        builder.position_at_end(done)

    def carry(self, count: Any, values: list[Any], body: Callable[[Any, list[Any]], list[Any]], unroll: int = 1) -> Any:
        """``for index in range(count): values = body(index, values)``; `count` may be zero.

        Values, or LLVM's own integers; the loop is written out `unroll` times.
        """
        builder = self.builder
        head, inside, done = (builder.append_basic_block(name) for name in ("carry", "body", "done"))
        before = builder.block
        builder.branch(head)
        builder.position_at_end(head)
        index, *carried = (builder.phi(kind) for kind in (self.i64, *(_llvm(value).type for value in values)))
        for phi, value in zip((index, *carried), (self.i64(0), *values), strict=True):
            phi.add_incoming(_llvm(value), before)
        builder.cbranch(builder.icmp_signed("<", index, count), inside, done)
        builder.position_at_end(inside)
        here = [_like(value, phi) for value, phi in zip(values, carried, strict=True)]
        after = body(index, here)
        for phi, value in zip((index, *carried), (builder.add(index, self.i64(1)), *after), strict=True):
            phi.add_incoming(_llvm(value), builder.block)
        back = builder.branch(head)
        if unroll > 1:
            back.set_metadata("llvm.loop", _unrolling(builder.module, "llvm.loop.unroll.count", self.i32(unroll)))
        builder.position_at_end(done)
        return here

    def either(self, condition: Any, yes: Callable[[], list[Value]], no: Callable[[], list[Value]]) -> list[Value]:
        """``yes() if condition else no()``."""
        builder = self.builder
        then, other, done = (builder.append_basic_block(name) for name in ("yes", "no", "either"))
        builder.cbranch(condition, then, other)
        ends = []
        for block, make in ((then, yes), (other, no)):
            builder.position_at_end(block)
            ends.append((make(), builder.block))
            builder.branch(done)
        builder.position_at_end(done)
        chosen = []
        for both in zip(*(values for values, _ in ends), strict=True):
            phi = builder.phi(both[0].llvm.type)
            for value, (_, block) in zip(both, ends, strict=True):
                phi.add_incoming(value.llvm, block)
            chosen.append(Value(builder, phi))
        return chosen

    def choose(self, value: Any, cases: tuple[int, ...], emit: Callable[[int], None]) -> None:
        """``emit(case)`` for the case that `value` equals, the last one if it equals none."""
        builder = self.builder
        blocks = [builder.append_basic_block(f"case{case}") for case in cases]
        done = builder.append_basic_block("chosen")
        choice = builder.switch(value, blocks[-1])
        for case, block in zip(cases[:-1], blocks[:-1], strict=True):
            choice.add_case(self.i64(case), block)
        for case, block in zip(cases, blocks, strict=True):
            builder.position_at_end(block)
            emit(case)
            builder.branch(done)
        builder.position_at_end(done)

    def each(self, first: Any, end: Any, most: int, emit: Callable[[int], None]) -> None:
        """``emit(i)`` for ``first <= i < end <= most``, unrolled: jumps into a row of `most` pieces, and out of it."""
        builder = self.builder
        pieces = [builder.append_basic_block(f"piece{i}") for i in range(most)]
        done = builder.append_basic_block("pieces_done")
        begin = builder.append_basic_block("pieces")
        builder.cbranch(builder.icmp_signed("<", first, end), begin, done)
        builder.position_at_end(begin)
        jump = builder.switch(first, pieces[0])
        for i, piece in enumerate(pieces[1:], 1):
            jump.add_case(self.i64(i), piece)
        for i, piece in enumerate(pieces):
            builder.position_at_end(piece)
            emit(i)
            if i + 1 < most:
                builder.cbranch(builder.icmp_signed("<", self.i64(i + 1), end), pieces[i + 1], done)
            else:
                builder.branch(done)
        builder.position_at_end(done)

    def variable(self, value: Value) -> Any:
        """Memory of its own, which LLVM turns into a register."""
        from numba.core import cgutils

        place = cgutils.alloca_once(self.builder, self.vector)
        self.builder.store(value.llvm, place)
        return place

    def value(self, place: Any) -> Value:
        return Value(self.builder, self.builder.load(place))

    def accumulate(self, place: Any, a: Value, b: Value) -> None:
        self.builder.store(a.fma(b, self.value(place)).llvm, place)


def _llvm(value: Any) -> Any:
    return value.llvm if isinstance(value, Value) else value


def _like(value: Any, llvm: Any) -> Any:
    return Value(value.builder, llvm) if isinstance(value, Value) else llvm


def emitted(emit: Callable[..., None], like: Any, *arguments: Any) -> Any:
    """What an intrinsic of these arguments is made of: types, and code that ``emit(e, *arguments)`` writes.

    Pointers are taken as they are, numbers as 64-bit integers. `e` is an `Emitter` for elements like those at `like`.
    """
    from numba.core import types

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        emit(Emitter(context, builder, like.dtype), *values)
        return context.get_dummy_value()

    return types.void(*[a if isinstance(a, types.CPointer) else types.int64 for a in arguments]), codegen
