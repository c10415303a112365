"""Compiling kernels with Numba, in a fraction of the time it takes by itself.

This is the only file that names Numba's compilation options and its private parts. Numba compiles a function to be
called from Python, alone, from a source that may use everything it knows. A kernel is called from machine code and
made of dozens of small helpers over integers, pointers and vectors. So:

- only those passes over a function run that such code needs (`_pipeline`);
- what Numba works out anew for every statement, though it depends on types alone, is remembered (`_remembered`),
  and what nobody asks for is left out (`_shortened`);
- functions become plain LLVM IR, are linked once, into the kernel's entry point, and are optimised there, once:
  otherwise every helper would be optimised and compiled by itself, again in each caller (`intermediate`);
- that is done without unrolling loops: hot ones are written out by hand, and the others took a third of the time.

Where a private part is missing, in another version of Numba, that much time is lost, and nothing else.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

# No nnan / ninf: NaN and infinity must survive. reassoc lets reductions be vectorised; the order it picks depends
# on the code and the problem, not on the threads, so results stay reproducible.
_FASTMATH = {"contract", "reassoc", "nsz", "arcp"}

# What stands in for a part of Numba: owner, name, value.
_StandIn = tuple[Any, str, Any]


@functools.cache
def options() -> dict[str, Any]:
    """The options of `numba.njit` for kernels and their helpers."""
    return {
        "nogil": True,
        "error_model": "numpy",
        "fastmath": _FASTMATH,
        "no_cpython_wrapper": True,
        "no_cfunc_wrapper": True,
        "_nrt": False,  # no reference counting: a cached kernel must link without Numba's runtime
        "pipeline_class": _pipeline(),
    }


def _pipeline() -> Any:
    """Numba's compiler with the passes that kernels need.

    Left out are closures, object mode, literal unrolling, inlining in Numba's own IR, array expressions, and the
    analysis of variables' lifetimes after every pass, for nothing here is counted by references.
    """
    from numba.core import compiler, compiler_machinery, typed_passes, untyped_passes

    passes = (
        untyped_passes.TranslateByteCode,
        untyped_passes.FixupArgs,
        untyped_passes.IRProcessing,
        untyped_passes.GenericRewrites,
        untyped_passes.ReconstructSSA,
        typed_passes.NopythonTypeInference,
        typed_passes.PreLowerStripPhis,
        typed_passes.NativeLowering,
        typed_passes.NoPythonBackend,
    )

    class PassManager(compiler_machinery.PassManager):
        _ENFORCING = False  # no analysis after passes that say they change the IR

    class KernelCompiler(compiler.CompilerBase):
        def define_pipelines(self) -> list[Any]:
            manager = PassManager("kernel")
            for each in passes:
                manager.add_pass(each, each.__name__)
            manager.finalize()
            return [manager]

    return KernelCompiler


@contextlib.contextmanager
def intermediate() -> Iterator[None]:
    """Let Numba produce plain LLVM IR for a function and its helpers: not linked, not optimised, no machine code."""
    from numba.core.codegen import CPUCodeLibrary
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.registry import cpu_target

    stand_ins: list[_StandIn] = [
        (CPUCodeLibrary, "finalize", lambda self: setattr(self, "_finalized", True)),
        (CPUCodeLibrary, "_optimize_functions", lambda self, module: None),
        # The dispatcher keeps a built-in per function, as a key; it is never called.
        (type(cpu_target.target_context), "get_executable", lambda self, library, fndesc, env: [].append),
    ]
    with global_compiler_lock, _replaced(stand_ins + _remembered() + _shortened()):
        yield


def link(library: Any) -> Any:
    """The optimised LLVM module of a function's library and of all functions that it calls."""
    module = library._final_module
    for callee in _callees(library):
        copy = callee._final_module.clone()
        for function in copy.functions:
            if not function.is_declaration:
                function.linkage = "linkonce_odr"  # several callers may bring it, and LLVM may drop it once inlined
        module.link_in(copy)
        callee._finalized = False  # it may be one of Numba's own functions: Numba may need it whole later
    _optimise(library.codegen._tm, module)
    module.verify()
    return module


def _callees(library: Any) -> list[Any]:
    """The libraries that `library` needs, and those that these need, each once."""
    found: dict[int, Any] = {}
    waiting = list(library._linking_libraries)
    while waiting:
        callee = waiting.pop()
        if id(callee) not in found:
            found[id(callee)] = callee
            waiting += callee._linking_libraries
    return list(found.values())


def _optimise(machine: Any, module: Any) -> None:
    import llvmlite.binding as llvm

    tuning = llvm.create_pipeline_tuning_options(speed_level=3)
    tuning.loop_vectorization = True
    tuning.slp_vectorization = True
    tuning.loop_unrolling = False  # but for loops that ask for it
    builder = llvm.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)


@functools.cache
def _remembered() -> list[_StandIn]:
    """Functions of Numba that answer the same questions for every statement of every kernel."""
    from numba.core import base, types

    size_of = base.BaseContext.get_abi_sizeof
    sizes: dict[str, int] = {}

    def get_abi_sizeof(self: Any, ty: Any) -> int:
        text = str(ty)
        if text not in sizes:
            sizes[text] = size_of(self, ty)  # builds and parses a module
        return sizes[text]

    call_type = types.BaseFunction.get_call_type
    signatures: dict[Any, Any] = {}
    plain = (types.Number, types.Boolean, types.Literal, types.CPointer)

    def get_call_type(self: Any, context: Any, args: Any, kws: Any) -> Any:
        key = (self, *args)
        signature = signatures.get(key)
        if signature is None or kws:
            signature = call_type(self, context, args, kws)
            if not kws and all(isinstance(arg, plain) for arg in args):
                signatures[key] = signature
        return signature

    return [
        (base.BaseContext, "get_abi_sizeof", get_abi_sizeof),
        (types.BaseFunction, "get_call_type", get_call_type),
        (base, "_has_loc", functools.cache(base._has_loc) if hasattr(base, "_has_loc") else None),
    ]


@functools.cache
def _shortened() -> list[_StandIn]:
    """Functions of Numba that do more than kernels need."""
    from numba.core import ir, lowering, postproc, types
    from numba.core.typing.context import BaseContext

    # Whether a value is a literal Numba finds out by formatting an error message, in colours.
    literal: Any = getattr(lowering, "_lit_or_omitted", None)
    prefer_literal: Any = getattr(BaseContext, "resolve_value_type_prefer_literal", None)

    def _lit_or_omitted(value: Any) -> Any:
        return types.Omitted(value) if value is ir.UNDEFINED else literal(value)

    def resolve_value_type_prefer_literal(self: Any, value: Any) -> Any:
        return self.resolve_value_type(value) if hasattr(value, "_numba_type_") else prefer_literal(self, value)

    # Which variables are alive where matters to reference counts and generators.
    post_process = postproc.PostProcessor.run

    def run(self: Any, emit_dels: bool = False, extend_lifetimes: bool = False) -> None:
        if emit_dels or self.func_ir.is_generator:
            post_process(self, emit_dels, extend_lifetimes)
            return
        self.func_ir.blocks = postproc.transforms.canonicalize_cfg(self.func_ir.blocks)
        self.func_ir.variable_lifetime = postproc.VariableLifetime(self.func_ir.blocks)  # worked out if asked for
        self.func_ir.generator_info = None

    return [
        (lowering, "_lit_or_omitted", _lit_or_omitted),
        (BaseContext, "resolve_value_type_prefer_literal", resolve_value_type_prefer_literal),
        (postproc.PostProcessor, "run", run),
    ]


@contextlib.contextmanager
def _replaced(stand_ins: list[_StandIn]) -> Iterator[None]:
    """Replace attributes ``owner.name`` for a while; only under the global compiler lock.

    They are private to Numba; where one is missing, nothing is gained or lost.
    """
    stand_ins = [item for item in stand_ins if hasattr(item[0], item[1])]
    originals = [getattr(owner, name) for owner, name, _ in stand_ins]
    for owner, name, stand_in in stand_ins:
        setattr(owner, name, stand_in)
    try:
        yield
    finally:
        for (owner, name, _), original in zip(stand_ins, originals, strict=True):
            setattr(owner, name, original)
