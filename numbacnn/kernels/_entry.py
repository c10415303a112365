"""The entry point of a kernel: from the Python function to an LLVM module behind one C signature.

``void entry(record*, block, worker, scratch*)`` loads the arguments from the record and calls the compiled function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _compile
from ._parameters import SPECIAL, unpack

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._parameters import Parameter

# What the linker finds in any process: the C library. Anything else would abort the process at load time.
_C_SYMBOLS = (
    "mem",
    "pthread_",
    "sched_",
    "exp",
    "log",
    "pow",
    "sqrt",
    "fma",
    "sin",
    "cos",
    "tan",
    "erf",
    "floor",
    "ceil",
)


def module(
    function: Callable[..., Any], symbol: str, specials: list[str], parameters: list[Parameter], binding: dict[str, str]
) -> tuple[Any, Any]:
    """LLVM's target machine, and the optimised module that defines `symbol`.

    Parameters
    ----------
    function : callable
        The block function.
    symbol : str
    specials : list of str
        Which of `SPECIAL` it takes, in the order of its parameters.
    parameters : list of Parameter
        The others.
    binding : dict
        The dtype of each type variable.
    """
    machine, linked = _compile.attempt(lambda: _compiled(function, symbol, specials, parameters, binding))
    missing = [f.name for f in linked.functions if f.is_declaration]
    missing = [name for name in missing if not name.startswith(("llvm.", *_C_SYMBOLS))]
    if missing:
        name = f"{function.__module__}.{function.__qualname__}"
        raise RuntimeError(f"{name} calls {', '.join(missing)}, which a kernel cannot link")
    return machine, linked


def _compiled(
    function: Callable[..., Any], symbol: str, specials: list[str], parameters: list[Parameter], binding: dict[str, str]
) -> tuple[Any, Any]:
    from numba.core import types

    parameter_types = [parameter.numba_type(binding) for parameter in parameters]
    special_types = {"block": types.intp, "worker": types.intp, "scratch": types.CPointer(types.int64)}
    signature = (*(special_types[name] for name in specials), *parameter_types)
    dispatcher = _compile.dispatcher(function)
    with _compile.intermediate():
        dispatcher.compile(types.void(*signature))
        body = dispatcher.overloads[signature]
        context = body.target_context
        library = context.codegen().create_library(f"entry of {symbol}")
        module, builder, slots = _begin(library, symbol)
        record, *supplied = slots
        arguments = [supplied[SPECIAL.index(name)] for name in specials]
        arguments += unpack(context, builder, record, parameters, parameter_types)
        callee = context.declare_function(module, body.fndesc)
        # Kernels never raise: the status that Numba's convention returns is dropped.
        context.call_conv.call_function(builder, callee, types.void, signature, arguments)
        builder.ret_void()
        library.add_ir_module(module)
        library.add_linking_library(body.library)
        return library.codegen._tm, _compile.link(library)


def _begin(library: Any, symbol: str) -> tuple[Any, Any, Any]:
    """A module of `library`, a builder inside the entry point that it declares, and that function's arguments."""
    from llvmlite import ir

    i64 = ir.IntType(64)
    module = library.create_ir_module(symbol)
    entry_type = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer(), i64, i64, i64.as_pointer()])
    entry = ir.Function(module, entry_type, symbol)
    return module, ir.IRBuilder(entry.append_basic_block()), entry.args
