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

Where another version of Numba lacks one of the private parts, that part's time is lost, and nothing else. Where
that breaks this way to compile, `attempt` falls back on Numba as it is: three times as long to compile, and loops
unrolled until tiles no longer fit the registers.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_Result = TypeVar("_Result")

# No nnan / ninf: NaN and infinity must survive. reassoc lets reductions be vectorised; the order it picks depends
# on the code and the problem, not on the threads, so results stay reproducible.
_FASTMATH = {"contract", "reassoc", "nsz", "arcp"}

# Whether kernels are compiled as described above, or by Numba as it is.
_quick = True

# What stands in for a part of Numba: owner, name, value.
_StandIn = tuple[Any, str, Any]


def is_quick() -> bool:
    """Whether kernels are compiled in the quick way; what was compiled in one way does not fit the other."""
    return _quick


def attempt(build: Callable[[], _Result]) -> _Result:
    """What `build` returns; if it fails in the quick way, but not in Numba's own, that is how things go from now on."""
    from numba.core.compiler_lock import global_compiler_lock

    global _quick
    with global_compiler_lock:
        if not _quick:
            return build()
        try:
            return build()
        except Exception as error:
            failure = error
        _quick = False
        try:
            result = build()
        except Exception:
            _quick = True  # the kernel is at fault
            raise failure from None
    import numba

    warnings.warn(
        f"numba {numba.__version__} does not compile kernels in the quick way ({type(failure).__name__}: "
        f"{str(failure).strip()}); its own takes three times as long, and some kernels run slower",
        RuntimeWarning,
        stacklevel=2,
    )
    return result


def dispatcher(function: Callable[..., Any], **more: Any) -> Any:
    """Numba's dispatcher of a function, with the options for kernels and their helpers."""
    import numba

    options = {
        "nogil": True,
        "error_model": "numpy",
        "fastmath": _FASTMATH,
        "no_cpython_wrapper": True,
        "no_cfunc_wrapper": True,
        "_nrt": False,  # no reference counting: a cached kernel must link without Numba's runtime
        **({"pipeline_class": _pipeline()} if _quick else {}),
    }
    return numba.njit(**options, **more)(function)


def helper(function: Callable[..., Any], force_inline: bool) -> Any:
    """The dispatcher of a helper, not compiled once more for every number that a call writes out."""
    from numba.core import types

    made = dispatcher(function, forceinline=force_inline)
    resolve = made.get_call_template

    def without_literals(args: Any, kws: Any) -> Any:
        return resolve(
            tuple(types.unliteral(arg) for arg in args), {name: types.unliteral(arg) for name, arg in kws.items()}
        )

    made.get_call_template = without_literals
    return made


@functools.cache
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
    if not _quick:
        yield
        return
    from numba.core.codegen import CPUCodeLibrary
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.registry import cpu_target

    unfinished: list[Any] = []

    def postpone(library: Any) -> None:
        library._finalized = True
        unfinished.append(library)

    stand_ins: list[_StandIn] = [
        (CPUCodeLibrary, "finalize", postpone),
        (CPUCodeLibrary, "_optimize_functions", lambda self, module: None),
        # The dispatcher keeps a built-in per function, as a key; it is never called.
        (type(cpu_target.target_context), "get_executable", lambda self, library, fndesc, env: [].append),
    ]
    with global_compiler_lock, _replaced(stand_ins + _remembered() + _shortened()):
        try:
            yield
        finally:
            # Some are of Numba's own functions: Numba may need them whole later. Those that it had finished before are
            # left alone, for it must not load them twice.
            for library in unfinished:
                library._finalized = False


def link(library: Any) -> Any:
    """The optimised LLVM module of a function's library and of all functions that it calls."""
    if not _quick:
        library.finalize()
        return library._final_module
    module = library._final_module
    for callee in _callees(library):
        copy = callee._final_module.clone()
        for function in copy.functions:
            if not function.is_declaration:
                function.linkage = "linkonce_odr"  # several callers may bring it, and LLVM may drop it once inlined
        module.link_in(copy)
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

    def remember_sizes(size_of: Any) -> Any:
        sizes: dict[str, int] = {}

        def get_abi_sizeof(self: Any, ty: Any) -> int:
            text = str(ty)
            if text not in sizes:
                sizes[text] = size_of(self, ty)  # builds and parses a module
            return sizes[text]

        return get_abi_sizeof

    def remember_signatures(call_type: Any) -> Any:
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

        return get_call_type

    return _standing_in(
        (base.BaseContext, "get_abi_sizeof", remember_sizes),
        (types.BaseFunction, "get_call_type", remember_signatures),
        (base, "_has_loc", functools.cache),
    )


@functools.cache
def _shortened() -> list[_StandIn]:
    """Functions of Numba that do more than kernels need."""
    from numba.core import ir, lowering, postproc, types
    from numba.core.typing.context import BaseContext

    # Whether a value is a literal Numba finds out by formatting an error message, in colours.
    def without_literals_of_undefined(literal: Any) -> Any:
        return lambda value: types.Omitted(value) if value is ir.UNDEFINED else literal(value)

    def without_literals_of_ours(prefer_literal: Any) -> Any:
        return lambda self, value: (
            self.resolve_value_type(value) if hasattr(value, "_numba_type_") else prefer_literal(self, value)
        )

    # Which variables are alive where matters to reference counts and generators.
    def without_lifetimes(post_process: Any) -> Any:
        def run(self: Any, emit_dels: bool = False, extend_lifetimes: bool = False) -> None:
            if emit_dels or self.func_ir.is_generator:
                post_process(self, emit_dels, extend_lifetimes)
                return
            self.func_ir.blocks = postproc.transforms.canonicalize_cfg(self.func_ir.blocks)
            self.func_ir.variable_lifetime = postproc.VariableLifetime(self.func_ir.blocks)  # worked out if asked for
            self.func_ir.generator_info = None

        return run

    return _standing_in(
        (lowering, "_lit_or_omitted", without_literals_of_undefined),
        (BaseContext, "resolve_value_type_prefer_literal", without_literals_of_ours),
        (postproc.PostProcessor, "run", without_lifetimes),
    )


def _standing_in(*made_from: tuple[Any, str, Callable[[Any], Any]]) -> list[_StandIn]:
    """Stand-ins made from what they stand in for, where that exists."""
    return [(owner, name, make(getattr(owner, name))) for owner, name, make in made_from if hasattr(owner, name)]


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
