"""Emitting the IR of register tiles whose values travel through loops and branches as lists: loads, stores, masks.

`emitter` is for tiles whose sums live in variables; here they are LLVM's values themselves.
"""

from __future__ import annotations

from typing import Any

from ._target import target


class TileEmitter:
    """Vector IR for one element type."""

    def __init__(self, builder: Any, element: Any) -> None:
        from llvmlite import ir

        self.ir, self.builder = ir, builder
        double = element.bitwidth == 64
        self.scalar = ir.DoubleType() if double else ir.FloatType()
        self.itemsize = 8 if double else 4
        self.lanes = target().lanes(self.itemsize)
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.suffix = f"v{self.lanes}f{8 * self.itemsize}"
        self.i32, self.i64 = ir.IntType(32), ir.IntType(64)
        self.mask_type = ir.VectorType(ir.IntType(1), self.lanes)
        self.zero = ir.Constant(self.vector, None)

    def constant(self, value: int) -> Any:
        return self.ir.Constant(self.i64, value)

    def call(self, name: str, result: Any, arguments: list[Any]) -> Any:
        from numba.core import cgutils

        function_type = self.ir.FunctionType(result, [a.type for a in arguments])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, function_type, name), arguments)

    def at(self, pointer: Any, index: Any) -> Any:
        return self.builder.gep(pointer, [index if not isinstance(index, int) else self.constant(index)])

    def slot(self, table: Any, index: Any, like: Any = None) -> Any:
        """The element pointer kept in a slot of the table."""
        pointer = self.scalar.as_pointer()
        return self.builder.load(self.builder.bitcast(self.at(table, index), pointer.as_pointer()))

    def load(self, pointer: Any, mask: Any = None) -> Any:
        place = self.builder.bitcast(pointer, self.vector.as_pointer())
        if mask is None:
            return self.builder.load(place, align=self.itemsize)
        alignment = self.ir.Constant(self.i32, self.itemsize)
        return self.call(f"llvm.masked.load.{self.suffix}.p0", self.vector, [place, alignment, mask, self.zero])

    def store(self, value: Any, pointer: Any, mask: Any = None) -> None:
        place = self.builder.bitcast(pointer, self.vector.as_pointer())
        if mask is None:
            self.builder.store(value, place, align=self.itemsize)
            return
        alignment = self.ir.Constant(self.i32, self.itemsize)
        self.call(f"llvm.masked.store.{self.suffix}.p0", self.ir.VoidType(), [value, place, alignment, mask])

    def broadcast(self, value: Any) -> Any:
        undefined = self.ir.Constant(self.ir.VectorType(value.type, self.lanes), self.ir.Undefined)
        first = self.builder.insert_element(undefined, value, self.ir.Constant(self.i32, 0))
        order = self.ir.Constant(self.ir.VectorType(self.i32, self.lanes), None)
        return self.builder.shuffle_vector(first, undefined, order)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        if target().fma:
            return self.call(f"llvm.fma.{self.suffix}", self.vector, [a, b, c])
        return self.builder.fadd(self.builder.fmul(a, b), c)

    def keep_order(self) -> None:
        """Load nothing in advance beyond this place, as LLVM may do until registers spill. Emits no instruction."""
        self.builder.fence("seq_cst", targetscope="singlethread")

    def mask(self, lanes: Any, vector: int) -> Any:
        """True in the lanes of vector number `vector` that lie below `lanes`."""
        ir = self.ir
        wide = ir.VectorType(self.i64, self.lanes)
        numbers = ir.Constant(wide, [ir.Constant(self.i64, vector * self.lanes + i) for i in range(self.lanes)])
        return self.builder.icmp_signed("<", numbers, self.broadcast(lanes))

    def horizontal_sum(self, value: Any) -> Any:
        """The sum of a vector's lanes, halves added to each other until one is left."""
        ir, lanes = self.ir, self.lanes
        while lanes > 1:
            lanes //= 2
            order = ir.Constant(
                ir.VectorType(self.i32, self.lanes), [(i + lanes) % self.lanes for i in range(self.lanes)]
            )
            value = self.builder.fadd(value, self.builder.shuffle_vector(value, value, order))
        return self.builder.extract_element(value, ir.Constant(self.i32, 0))

    def block(self, name: str) -> Any:
        return self.builder.append_basic_block(name)


def _unrolled(module: Any, times: int) -> Any:
    """Metadata that says so; by LLVM's rule a loop's metadata names itself first."""
    from llvmlite import ir

    count = module.add_metadata(["llvm.loop.unroll.count", ir.Constant(ir.IntType(32), times)])
    loop = module.add_metadata([count, module.add_metadata([str(len(module.metadata))])])
    loop.operands = (loop, count)
    return loop


def loop(e: TileEmitter, name: str, count: Any, values: list[Any], body: Any, unroll: int = 1) -> list[Any]:
    """``for i in range(count): values = body(i, values)`` with the values in registers; `count` may be zero."""
    builder = e.builder
    head, inside, done = e.block(name), e.block(name + "_body"), e.block(name + "_done")
    before = builder.block
    builder.branch(head)
    builder.position_at_end(head)
    i = builder.phi(e.i64)
    i.add_incoming(e.constant(0), before)
    carried = []
    for value in values:
        phi = builder.phi(value.type)
        phi.add_incoming(value, before)
        carried.append(phi)
    builder.cbranch(builder.icmp_signed("<", i, count), inside, done)
    builder.position_at_end(inside)
    after = body(i, carried)
    i.add_incoming(builder.add(i, e.constant(1)), builder.block)
    for phi, value in zip(carried, after, strict=True):
        phi.add_incoming(value, builder.block)
    back = builder.branch(head)
    if unroll > 1:
        back.set_metadata("llvm.loop", _unrolled(builder.module, unroll))
    builder.position_at_end(done)
    return carried


def choose(e: TileEmitter, name: str, condition: Any, yes: Any, no: Any) -> list[Any]:
    """``yes() if condition else no()``, both lists of values."""
    builder = e.builder
    then, other, done = e.block(name + "_yes"), e.block(name + "_no"), e.block(name + "_end")
    builder.cbranch(condition, then, other)
    ends = []
    for block, make in ((then, yes), (other, no)):
        builder.position_at_end(block)
        values = make()
        ends.append((builder.block, values))
        builder.branch(done)
    builder.position_at_end(done)
    chosen = []
    for a, b in zip(ends[0][1], ends[1][1], strict=True):
        phi = builder.phi(a.type)
        phi.add_incoming(a, ends[0][0])
        phi.add_incoming(b, ends[1][0])
        chosen.append(phi)
    return chosen


def add_products(e: TileEmitter, lefts: list[tuple[Any, ...]], right: Any, sums: list[Any]) -> list[Any]:
    """The step of a tile of rows x vectors sums: each row's element times the vectors that lie at `right`.

    `lefts` points to the element of each row, or to several that the vectors take in turn.
    """
    vectors = len(sums) // len(lefts)
    row = [e.load(e.at(right, j * e.lanes)) for j in range(vectors)]
    new = []
    for i, places in enumerate(lefts):
        values = [e.broadcast(e.builder.load(place, align=e.itemsize)) for place in places]
        new += [e.multiply_add(values[j % len(values)], row[j], sums[i * vectors + j]) for j in range(vectors)]
        if len(places) > 1:  # so many broadcasts leave no register free for what comes next
            e.keep_order()
    return new


def load_rows(e: TileEmitter, rows: list[Any], vectors: int, lanes: Any = None) -> list[Any]:
    """Rows x vectors values; 0 in the lanes at and beyond `lanes`, whose memory is not touched."""
    masks = [None if lanes is None else e.mask(lanes, j) for j in range(vectors)]
    return [e.load(e.at(row, j * e.lanes), masks[j]) for row in rows for j in range(vectors)]


def store_rows(e: TileEmitter, values: list[Any], rows: list[Any], lanes: Any = None) -> None:
    """Store rows x vectors values, the lanes at and beyond `lanes` left as they are."""
    vectors = len(values) // len(rows)

    def store(masks: list[Any]) -> list[Any]:
        for i, row in enumerate(rows):
            for j in range(vectors):
                e.store(values[i * vectors + j], e.at(row, j * e.lanes), masks[j])
        return []

    if lanes is None:
        store([None] * vectors)
        return
    full = e.builder.icmp_signed(">=", lanes, e.constant(vectors * e.lanes))
    choose(
        e,
        "store",
        full,
        lambda: store([None] * vectors),
        lambda: store([e.mask(lanes, j) for j in range(vectors)]),
    )
