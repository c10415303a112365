"""Pointers inside kernels: offsets, tables of pointers, scratch memory on the stack.

An address is always a pointer, loaded and stored as one; integer arithmetic on addresses would defeat LLVM's alias
analysis (and has been miscompiled).
"""

from __future__ import annotations

from typing import Any

from ._build import intrinsic


@intrinsic
def offset(typingctx, pointer, elements):
    """The pointer `elements` further on (``pointer + elements`` in C)."""
    from numba.core import types

    def codegen(context, builder, signature, args):
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.int64), codegen


@intrinsic
def first(typingctx, array):
    """Pointer to an array's first element (``&array[0]`` in C)."""
    from numba.core import types

    def codegen(context, builder, signature, args):
        return context.make_array(array)(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), codegen


@intrinsic
def store_pointer(typingctx, slots, i, pointer):
    """Keep a pointer in slot `i` of a table of 8-byte slots."""
    from numba.core import types

    def codegen(context, builder, signature, args):
        place = builder.gep(args[0], [args[1]])
        builder.store(args[2], builder.bitcast(place, args[2].type.as_pointer()))
        return context.get_dummy_value()

    return types.void(slots, types.int64, pointer), codegen


@intrinsic
def load_pointer(typingctx, slots, i, like):
    """The pointer kept in slot `i`, as a pointer of the type of `like`."""
    from numba.core import types

    def codegen(context, builder, signature, args):
        place = builder.gep(args[0], [args[1]])
        return builder.load(builder.bitcast(place, args[2].type.as_pointer()))

    return like(slots, types.int64, like), codegen


@intrinsic
def is_other(typingctx, slots, i, pointer):
    """Whether slot `i` keeps another pointer than `pointer`."""
    from numba.core import types

    def codegen(context, builder, signature, args):
        place = builder.gep(args[0], [args[1]])
        kept = builder.load(builder.bitcast(place, args[2].type.as_pointer()))
        return builder.icmp_unsigned("!=", kept, args[2])

    return types.boolean(slots, types.int64, pointer), codegen


def stack_slots(count: int) -> Any:
    """An intrinsic that returns `count` 8-byte slots of the kernel's own stack, 64-byte aligned, uninitialised."""

    def allocate(typingctx: Any) -> Any:
        from llvmlite import ir
        from numba.core import types

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            # Not cgutils.alloca_once: it fills with zeros, at every call, and LLVM may spend minutes on the store.
            with builder.goto_entry_block():
                slots = builder.alloca(ir.ArrayType(ir.IntType(64), count))
            slots.align = 64
            return builder.bitcast(slots, ir.IntType(64).as_pointer())

        return types.CPointer(types.int64)(), codegen

    return intrinsic(allocate)


@intrinsic
def cast(typingctx, pointer, like):
    """The same address as a pointer of the type of `like`."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], args[1].type)

    return like(pointer, like), codegen


@intrinsic
def as_integers(typingctx, pointer):
    """The same address as a pointer to unsigned integers of the elements' size, for code that only moves them."""
    from llvmlite import ir
    from numba.core import types

    bits = pointer.dtype.bitwidth
    result = types.CPointer(types.uint32 if bits == 32 else types.uint64)

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.IntType(bits).as_pointer())

    return result(pointer), codegen


def _prefetch(write: int, locality: int = 3) -> Any:
    def prefetch(typingctx: Any, pointer: Any, elements: Any) -> Any:
        from llvmlite import ir
        from numba.core import cgutils, types

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            i8, i32 = ir.IntType(8), ir.IntType(32)
            place = builder.bitcast(builder.gep(args[0], [args[1]]), i8.as_pointer())
            function_type = ir.FunctionType(ir.VoidType(), [i8.as_pointer(), i32, i32, i32])
            function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
            builder.call(function, [place, *(ir.Constant(i32, n) for n in (write, locality, 1))])
            return context.get_dummy_value()

        return types.void(pointer, types.int64), codegen

    return intrinsic(prefetch)


prefetch_read = _prefetch(0)  # ask for the cache line of pointer[elements]; harmless wherever it points
prefetch_far = _prefetch(0, locality=2)  # the same, into the second-level cache
prefetch_write = _prefetch(1)
