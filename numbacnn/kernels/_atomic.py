"""Atomics, POSIX locks and calls by address, for the code that hands out blocks."""

from __future__ import annotations

from typing import Any

from ._build import intrinsic


def _pthread(name: str, arguments: int) -> Any:
    """An intrinsic for a C library function that takes `arguments` addresses inside the int64 array `state`."""

    def call(typingctx: Any, state: Any, slots: Any) -> Any:
        from llvmlite import ir
        from numba.core import cgutils, types

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = ir.IntType(8).as_pointer()
            function_type = ir.FunctionType(ir.IntType(32), [pointer] * arguments)
            function = cgutils.get_or_insert_function(builder.module, function_type, name)
            places = [builder.extract_value(args[1], i) for i in range(arguments)] if arguments else []
            builder.call(function, [builder.bitcast(builder.gep(args[0], [p]), pointer) for p in places])
            return context.get_dummy_value()

        return types.void(state, types.UniTuple(types.int64, arguments) if arguments else types.Tuple(())), codegen

    return intrinsic(call)


pthread_mutex_lock = _pthread("pthread_mutex_lock", 1)
pthread_mutex_unlock = _pthread("pthread_mutex_unlock", 1)
pthread_cond_wait = _pthread("pthread_cond_wait", 2)
pthread_cond_broadcast = _pthread("pthread_cond_broadcast", 1)
sched_yield = _pthread("sched_yield", 0)


@intrinsic
def atomic_load(typingctx, state, i):
    """``state[i]``, sequentially consistent."""
    from numba.core import types

    def codegen(context, builder, signature, args):
        return builder.load_atomic(builder.gep(args[0], [args[1]]), "seq_cst", 8)

    return types.int64(state, types.int64), codegen


@intrinsic
def atomic_add(typingctx, state, i, value):
    """Add to ``state[i]``; return what was there before."""
    from numba.core import types

    def codegen(context, builder, signature, args):
        return builder.atomic_rmw("add", builder.gep(args[0], [args[1]]), args[2], "seq_cst")

    return types.int64(state, types.int64, types.int64), codegen


@intrinsic
def atomic_replace(typingctx, state, i, expected, value):
    """Set ``state[i] = value`` if it is `expected`; whether it was."""
    from numba.core import types

    def codegen(context, builder, signature, args):
        place = builder.gep(args[0], [args[1]])
        return builder.extract_value(builder.cmpxchg(place, args[2], args[3], "seq_cst", "seq_cst"), 1)

    return types.boolean(state, types.int64, types.int64, types.int64), codegen


@intrinsic
def spin_pause(typingctx):
    """Tell the core that this is a waiting loop (x86 PAUSE, Arm YIELD)."""
    from llvmlite import ir
    from numba.core import cgutils, types

    from ._target import target

    def codegen(context, builder, signature, args):
        machine = target().triple.partition("-")[0]
        if machine == "x86_64":
            pause, hint = "llvm.x86.sse2.pause", []
        elif machine in ("aarch64", "arm64"):
            pause, hint = "llvm.aarch64.hint", [ir.Constant(ir.IntType(32), 1)]
        else:
            return context.get_dummy_value()
        function_type = ir.FunctionType(ir.VoidType(), [value.type for value in hint])
        builder.call(cgutils.get_or_insert_function(builder.module, function_type, pause), hint)
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def call_entry(typingctx, entry, record, block, worker, scratch):
    """Call a kernel's entry point by its address."""
    from llvmlite import ir
    from numba.core import types

    def codegen(context, builder, signature, args):
        i64 = ir.IntType(64)
        pointer = i64.as_pointer()
        function_type = ir.FunctionType(ir.VoidType(), [pointer, i64, i64, pointer])
        builder.call(builder.bitcast(args[0], function_type.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(entry, record, types.int64, types.int64, scratch), codegen
