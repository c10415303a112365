"""Emitting LLVM's vector IR: what the register tiles of depthwise convolution are written with."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from .simd import Value, vector_class


def _no_unrolling(module: Any) -> Any:
    """Metadata that says so; by LLVM's rule a loop's metadata names itself first."""
    loop = module.add_metadata(
        [module.add_metadata(["llvm.loop.unroll.disable"]), module.add_metadata([str(len(module.metadata))])]
    )
    loop.operands = (loop, *loop.operands[:1])
    return loop


class Emitter:
    """Vector IR over pointers to one element type."""

    def __init__(self, context: Any, builder: Any, element: Any) -> None:
        from llvmlite import ir

        from ._target import target

        self.builder = builder
        self.itemsize = element.bitwidth // 8
        self.lanes = target().lanes(self.itemsize)
        self.vector = context.get_value_type(vector_class()(element, self.lanes))
        self.pointer = context.get_value_type(element).as_pointer()
        self.zero = Value(builder, ir.Constant(self.vector, None))
        self.i64 = ir.IntType(64)

    def times(self, value: Any, factor: int) -> Any:
        return self.builder.mul(value, self.i64(factor))

    def at(self, pointer: Any, index: Any) -> Any:
        return self.builder.gep(pointer, [self.i64(index) if isinstance(index, int) else index])

    def load(self, pointer: Any, vector: int = 0) -> Value:
        """Vector number `vector` from `pointer` on."""
        place = self.builder.bitcast(self.at(pointer, vector * self.lanes), self.vector.as_pointer())
        return Value(self.builder, self.builder.load(place, align=self.itemsize))

    def broadcast(self, pointer: Any) -> Value:
        """The element at `pointer`, in all lanes."""
        return Value(self.builder, self.builder.load(pointer, align=self.itemsize)).broadcast(self.lanes)

    def store(self, value: Value, pointer: Any, vector: int = 0) -> None:
        place = self.builder.bitcast(self.at(pointer, vector * self.lanes), self.vector.as_pointer())
        self.builder.store(value.llvm, place, align=self.itemsize)

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
        builder.branch(head).set_metadata("llvm.loop", _no_unrolling(builder.module))
        builder.position_at_end(done)

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
