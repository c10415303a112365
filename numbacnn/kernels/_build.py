"""`@kernel`: from a readable Python function to machine code behind a C entry point.

This is the only file that names Numba's compilation options.

A kernel is a serial function over one *block* of a problem. Its parameters carry types as annotations:

=================  ====================================================================================
annotation         argument at the launch -> value inside the kernel
=================  ====================================================================================
``"T[:, :]"``      C-contiguous ndarray -> array (no bounds check)
``"T*"``           ndarray of any layout -> pointer to its first element (strides travel as integers)
``"T"``            Python or NumPy scalar -> that dtype
``"int64"``, ...   a scalar of that dtype; ``"int64[:]"``, ``"uint8*"`` likewise
a NamedTuple       its integers, by name
``"slots"``        nothing -> pointer to the argument record itself, for drivers
=================  ====================================================================================

``T`` is a type variable: the kernel is compiled once per dtype it is used with (`T=` in the decorator lists them,
float32 and float64 unless said), and the dtype comes from the first array annotated with it. Three parameters have
fixed meanings and no annotation: the first, ``block``, is the block's number; ``worker``, if present, the number of the
thread that runs it; ``scratch``, if present, a pointer to `_serial.SCRATCH_SLOTS` 8-byte slots of memory (64-byte
aligned, uninitialised) that belong to that thread until the block is done.

All arguments travel in one record of 8-byte slots, so every kernel has the same machine signature
``void entry(record*, block, worker, scratch*)`` and one driver runs them all.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
import itertools
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _cache, _compile, _launch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FLOATS = ("float32", "float64")

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
_registry: list[Kernel] = []

# Parameters that the drivers supply, in the order of the machine signature's arguments 1, 2, 3.
_SPECIAL = ("block", "worker", "scratch")


class _LazyNumba:
    """A function that Numba sees as compiled code, without Numba being imported before it is needed."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function

    def __call__(self, *args: Any) -> Any:
        raise TypeError(f"{self._function.__qualname__} exists only inside kernels")


class device(_LazyNumba):
    """A helper that kernels call; Numba compiles it into each of them."""

    _force_inline = False

    @functools.cached_property
    def _numba_type_(self) -> Any:
        import numba

        # Kept: a Numba type holds its object weakly.
        self._compiled = numba.njit(**_compile.options(), forceinline=self._force_inline)(self._function)
        _forget_literals(self._compiled)
        return numba.typeof(self._compiled)


def _forget_literals(dispatcher: Any) -> None:
    """Keep Numba from compiling a helper once more for every number that a call writes out."""
    from numba.core import types

    resolve = dispatcher.get_call_template

    def without_literals(args: Any, kws: Any) -> Any:
        return resolve(
            tuple(types.unliteral(arg) for arg in args), {name: types.unliteral(arg) for name, arg in kws.items()}
        )

    dispatcher.get_call_template = without_literals


class inlined(device):
    """A device function that is inlined however large: for one hot place that has much to hand over."""

    _force_inline = True


class intrinsic(_LazyNumba):
    """A helper that emits LLVM IR itself (`numba.extending.intrinsic`, imported when first compiled)."""

    @functools.cached_property
    def _numba_type_(self) -> Any:
        from numba import extending
        from numba.core.registry import cpu_target

        self._compiled = extending.intrinsic(self._function)
        cpu_target.typing_context.refresh()
        return cpu_target.typing_context.resolve_value_type(self._compiled)


@functools.cache
def _record_class() -> Any:
    """Numba's type of a record: a pointer to its slots, which never change (made at first use, because it needs Numba).

    As a tuple, Numba would take it apart and put it together again at every call: seconds, for dozens of fields.
    """
    from llvmlite import ir
    from numba.core import types
    from numba.core.imputils import lower_getattr_generic
    from numba.core.registry import cpu_target
    from numba.core.typing.templates import AttributeTemplate, infer_getattr
    from numba.extending import models, register_model

    class Record(types.Type):
        """The integers of the NamedTuple `kind`, by name."""

        def __init__(self, kind: Any) -> None:
            self.kind = kind
            super().__init__(name=f"Record({kind.__module__}.{kind.__qualname__})")

    @register_model(Record)
    class RecordModel(models.PrimitiveModel):
        def __init__(self, manager: Any, record: Any) -> None:
            super().__init__(manager, record, ir.IntType(64).as_pointer())

    @infer_getattr
    class RecordAttributes(AttributeTemplate):
        key = Record

        def generic_resolve(self, record: Any, name: str) -> Any:
            return types.int64 if name in record.kind._fields else None

    @lower_getattr_generic(Record)
    def load_field(context: Any, builder: Any, record: Any, value: Any, name: str) -> Any:
        place = builder.gep(value, [ir.Constant(ir.IntType(64), record.kind._fields.index(name))])
        field = builder.load(place)
        field.set_metadata("invariant.load", builder.module.add_metadata([]))
        return field

    cpu_target.target_context.refresh()
    cpu_target.typing_context.refresh()
    return Record


class _Parameter:
    """One parameter: its Numba type for a binding of the type variables, and how an argument fills its slots."""

    def __init__(self, name: str, annotation: Any) -> None:
        self.name = name
        self.ndim = 0
        self.record: Any = None
        if isinstance(annotation, type) and issubclass(annotation, tuple):
            self.kind, self.element, self.record = "record", "int64", annotation
            return
        text = str(annotation).replace(" ", "")
        if text == "slots":
            self.kind, self.element = "slots", "int64"
        elif text.endswith("*"):
            self.kind, self.element = "pointer", text[:-1]
        elif text.endswith("]"):
            self.kind, self.element = "array", text[: text.index("[")]
            self.ndim = text.count(":")
        else:
            self.kind, self.element = "scalar", text

    @property
    def is_array(self) -> bool:
        return self.kind in ("array", "pointer")

    def numba_type(self, binding: dict[str, str]) -> Any:
        from numba.core import types

        element = getattr(types, binding.get(self.element, self.element))
        if self.kind in ("pointer", "slots"):
            return types.CPointer(element)
        if self.kind == "array":
            return types.Array(element, self.ndim, "C")
        if self.kind == "record":
            return _record_class()(self.record)
        return element

    def format(self, binding: dict[str, str]) -> str:
        """`struct` format of its 8-byte slots."""
        if self.kind == "slots":
            return ""
        if self.kind == "scalar":
            return {"float32": "f4x", "float64": "d"}.get(binding.get(self.element, self.element), "q")
        return "q" * (len(self.record._fields) if self.kind == "record" else 1 + self.ndim)


class _Rule(NamedTuple):
    """What one argument must be and the slots that it fills."""

    name: str
    dtype: np.dtype[Any] | None  # of an array; None for anything else
    ndim: int  # axes of an array that must be C-contiguous; 0: any strides
    is_record: bool
    format: str  # `struct` format of its slots


class _Variant:
    """A kernel for one binding of its type variables: entry point and argument packing."""

    def __init__(self, kernel: Kernel, key: tuple[str, ...]) -> None:
        binding = dict(zip(kernel.variables, key, strict=True))
        self.name = kernel.name
        self.entry = kernel.load(key)
        self.rules = [
            _Rule(
                p.name,
                np.dtype(binding.get(p.element, p.element)) if p.is_array else None,
                p.ndim if p.kind == "array" else 0,
                p.kind == "record",
                p.format(binding),
            )
            for p in kernel.parameters
            if p.kind != "slots"
        ]
        layout = struct.Struct("=" + _launch.HEADER + "".join(rule.format for rule in self.rules))
        self.size = layout.size // 8
        header = {"entry": self.entry, "size": self.size}
        #: record(blocks, shared, *arguments)
        self.record = _write_packer(
            self.name, self.rules, layout.pack, ("entry", "blocks", "size", "shared"), (), ("blocks", "shared"), header
        )


class Prepared:
    """A launch of which only the first arguments are left open; see `Kernel.prepare`."""

    def __init__(self, variant: _Variant, blocks: int, constants: tuple[Any, ...], cost: float) -> None:
        self._count = len(variant.rules) - len(constants)
        open_rules, rules = variant.rules[: self._count], variant.rules[self._count :]
        self._name = variant.name
        self._constants = constants  # the arrays among them must live as long as their addresses
        constant_layout = struct.Struct("=" + "".join(rule.format for rule in rules))
        parts = {
            "head": struct.pack(
                "=" + _launch.HEADER, variant.entry, blocks, variant.size, _launch.is_worth_sharing(blocks, cost)
            ),
            "tail": _write_packer(variant.name, rules, constant_layout.pack)(*constants),
        }
        layout = struct.Struct(
            f"={len(parts['head'])}s{''.join(rule.format for rule in open_rules)}{len(parts['tail'])}s"
        )
        self._record = _write_packer(variant.name, open_rules, layout.pack, ("head",), ("tail",), (), parts)

    def job(self, *arguments: Any) -> _launch.Job:
        """The launch with its first arguments, for `_launch.run`."""
        if len(arguments) != self._count:
            raise TypeError(f"{self._name}, as prepared, takes {self._count} arguments, got {len(arguments)}")
        return self._record(*arguments), arguments

    def __call__(self, *arguments: Any) -> None:
        """Run all blocks."""
        _launch.run(self.job(*arguments))


class Kernel:
    """A block function with typed parameters; calling it runs all its blocks.

    ``kernel(blocks, *arguments, cost=ns)`` runs blocks ``0 .. blocks - 1`` in parallel, or serially when the whole
    takes about `cost` nanoseconds on one core and that is too little to share. It returns when all are done.
    """

    def __init__(self, function: Callable[..., Any], variables: dict[str, tuple[str, ...]]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        names = list(inspect.signature(function).parameters)
        self.specials = [name for name in names if name in _SPECIAL]
        hints = {name: _resolve(annotation, function) for name, annotation in inspect.get_annotations(function).items()}
        self.parameters = [_Parameter(name, hints[name]) for name in names if name not in _SPECIAL]
        self._count = sum(parameter.kind != "slots" for parameter in self.parameters)
        used = {parameter.element for parameter in self.parameters}
        self.variables = {name: dtypes for name, dtypes in variables.items() if name in used}
        # The argument that binds each type variable: the first array of that element type.
        self._binders = [
            next(i for i, p in enumerate(self.parameters) if p.element == name and p.is_array)
            for name in self.variables
        ]
        self._variants: dict[Any, _Variant] = {}
        self._entries: dict[tuple[str, ...], int] = {}
        _registry.append(self)

    @property
    def name(self) -> str:
        return f"{self.function.__module__}.{self.function.__qualname__}"

    def bindings(self) -> Iterator[tuple[str, ...]]:
        """Every combination of dtypes this kernel exists for."""
        return itertools.product(*self.variables.values())

    def __call__(self, blocks: int, *arguments: Any, cost: float = float("inf")) -> None:
        if len(arguments) != self._count:
            raise TypeError(f"{self.name} takes {self._count} arguments, got {len(arguments)}")
        variant = self._variant(tuple([arguments[i].dtype for i in self._binders]))
        record = variant.record(blocks, _launch.is_worth_sharing(blocks, cost), *arguments)
        if blocks > 0:
            _launch.run((record, arguments))

    def prepare(
        self, dtypes: tuple[np.dtype[Any], ...], blocks: int, *constants: Any, cost: float = float("inf")
    ) -> Prepared:
        """A launch whose last arguments are known, for plans that are kept: what it costs to launch is paid once.

        Parameters
        ----------
        dtypes : tuple of dtype
            One for each type variable.
        blocks : int
        *constants
            The last arguments, in order.
        cost : float
            Nanoseconds that all blocks together take one core, roughly.
        """
        return Prepared(self._variant(dtypes), blocks, constants, cost)

    def _variant(self, dtypes: tuple[np.dtype[Any], ...]) -> _Variant:
        variant = self._variants.get(dtypes)
        if variant is None:
            variant = self._variants[dtypes] = _Variant(self, tuple([dtype.name for dtype in dtypes]))
        return variant

    def load(self, key: tuple[str, ...]) -> int:
        """Address of the entry point for the dtypes `key`: from memory, else from disk, else compiled now."""
        with _cache.lock:
            if key not in self._entries:
                for dtype, (name, allowed) in zip(key, self.variables.items(), strict=True):
                    if dtype not in allowed:
                        raise TypeError(f"{self.name}: {name} must be one of {', '.join(allowed)}, got {dtype}")
                self._entries[key] = _cache.load(self.function, self._symbol(key), lambda: self.compile(key))
            return self._entries[key]

    def _symbol(self, key: tuple[str, ...]) -> str:
        return "__".join([self.name.replace(".", "_"), *key])

    def compile(self, key: tuple[str, ...]) -> bytes:
        """The object file that defines this kernel's entry point for the dtypes `key`."""
        machine, module = self._module(key)
        return machine.emit_object(module)

    def assembly(self, *key: str) -> str:
        """The optimised assembly for the dtypes `key` (for inspection and for tests)."""
        machine, module = self._module(key)
        return machine.emit_assembly(module)

    def _module(self, key: tuple[str, ...]) -> tuple[Any, Any]:
        """LLVM's target machine, and the optimised module."""
        import numba
        from llvmlite import ir
        from numba.core import types

        binding = dict(zip(self.variables, key, strict=True))
        parameter_types = [p.numba_type(binding) for p in self.parameters]
        special_types = {"block": types.intp, "worker": types.intp, "scratch": types.CPointer(types.int64)}
        signature = (*(special_types[name] for name in self.specials), *parameter_types)
        dispatcher = numba.njit(**_compile.options())(self.function)
        with _compile.intermediate():
            dispatcher.compile(types.void(*signature))
            body = dispatcher.overloads[signature]
            context = body.target_context
            library = context.codegen().create_library(f"entry of {self._symbol(key)}")
            module = library.create_ir_module(self.name)
            i64 = ir.IntType(64)
            record_type = ir.IntType(8).as_pointer()
            entry_type = ir.FunctionType(ir.VoidType(), [record_type, i64, i64, i64.as_pointer()])
            entry = ir.Function(module, entry_type, self._symbol(key))
            builder = ir.IRBuilder(entry.append_basic_block())
            arguments = [entry.args[1 + _SPECIAL.index(name)] for name in self.specials]
            arguments += _unpack(context, builder, entry.args[0], self.parameters, parameter_types)
            callee = context.declare_function(module, body.fndesc)
            # Kernels never raise: the status that Numba's convention returns is dropped.
            context.call_conv.call_function(builder, callee, types.void, signature, arguments)
            builder.ret_void()
            library.add_ir_module(module)
            library.add_linking_library(body.library)
            linked = _compile.link(library)
        missing = [f.name for f in linked.functions if f.is_declaration]
        missing = [name for name in missing if not name.startswith(("llvm.", *_C_SYMBOLS))]
        if missing:
            raise RuntimeError(f"{self.name} calls {', '.join(missing)}, which a kernel cannot link")
        return library.codegen._tm, linked


def _unpack(
    context: Any, builder: Any, record: Any, parameters: list[_Parameter], parameter_types: list[Any]
) -> list[Any]:
    """Load every parameter from the record. Pointers are loaded as pointers: no integer becomes an address."""
    from llvmlite import ir
    from numba.core import types
    from numba.np.arrayobj import populate_array

    i64 = ir.IntType(64)
    slots = builder.bitcast(record, i64.as_pointer())
    position = itertools.count()

    def slot(llvm_type: Any) -> Any:
        place = builder.gep(slots, [ir.Constant(i64, next(position))])
        return builder.load(builder.bitcast(place, llvm_type.as_pointer()))

    values = []
    for parameter, ty in zip(parameters, parameter_types, strict=True):
        if parameter.kind == "slots":
            values.append(slots)
        elif isinstance(ty, types.Array):
            element = context.get_data_type(ty.dtype)
            data = slot(element.as_pointer())
            shape = [slot(i64) for _ in range(ty.ndim)]
            itemsize = ir.Constant(i64, context.get_abi_sizeof(element))
            strides = [itemsize]
            for extent in reversed(shape[1:]):
                strides.insert(0, builder.mul(strides[0], extent))
            array = context.make_array(ty)(context, builder)
            populate_array(array, data, shape, strides, itemsize, meminfo=None)
            values.append(array._getvalue())
        elif parameter.kind == "record":
            values.append(builder.gep(slots, [ir.Constant(i64, next(position))]))
            for _ in parameter.record._fields[1:]:
                next(position)
        else:
            values.append(slot(context.get_data_type(ty)))
    return values


def _write_packer(
    kernel: str,
    rules: list[_Rule],
    pack: Callable[..., bytes],
    before: tuple[str, ...] = (),
    after: tuple[str, ...] = (),
    parameters: tuple[str, ...] = (),
    values: dict[str, Any] | None = None,
) -> Callable[..., bytes]:
    """A function that packs arguments into a record: ``pack(*before, slots of the arguments, *after)``.

    Every call of every kernel packs its arguments, which a loop over rules would do at half the speed. So the function
    is written out, as `dataclasses` does. For one array, one record and a scalar it is::

        def packed(a0, a1, a2):
            if a0.dtype is not dtype0:
                check(a0, a1, a2)
            return pack(size_at(id(a0) + 16).value, *a1, a2)
    """
    names = [f"a{i}" for i in range(len(rules))]
    scope = {"pack": pack, "size_at": _size_at, "check": functools.partial(_check, kernel, rules), **(values or {})}
    doubts, slots = [], []
    for name, rule in zip(names, rules, strict=True):
        if rule.dtype is None:
            slots.append(("*" if rule.is_record else "") + name)
            continue
        scope[f"dtype_{name}"] = rule.dtype
        doubts.append(f"{name}.dtype is not dtype_{name}")
        slots.append(_ADDRESS.format(name))
        if rule.ndim:
            doubts.append(f"not ({name}.ndim == {rule.ndim} and {name}.flags.c_contiguous)")
            slots.append(f"*{name}.shape")
    source = f"""
def packed({", ".join([*parameters, *names])}):
    if {" or ".join(doubts) or "False"}:
        check({", ".join(names)})
    return pack({", ".join([*before, *slots, *after])})
"""
    exec(source, scope)
    return scope["packed"]


def _check(kernel: str, rules: list[_Rule], *arguments: Any) -> None:
    """Raise if an array is not what its annotation says."""
    for argument, rule in zip(arguments, rules, strict=True):
        if rule.dtype is not None and argument.dtype != rule.dtype:
            raise TypeError(f"{kernel}: {rule.name} must be {rule.dtype}, got {argument.dtype}")
        if rule.ndim and not (argument.ndim == rule.ndim and argument.flags.c_contiguous):
            raise ValueError(
                f"{kernel}: {rule.name} must be a C-contiguous {rule.ndim}-D array, got shape {argument.shape} "
                f"with strides {argument.strides}"
            )


# The address of an array's first element is read from the array object, seven times quicker than by `ndarray.ctypes`:
# PyArrayObject is the object header, then `char *data`.
_size_at = ctypes.c_size_t.from_address
_DATA_OFFSET = object.__basicsize__
_ADDRESS = f"size_at(id({{0}}) + {_DATA_OFFSET}).value"


def address(array: np.ndarray) -> int:
    """The address of an array's first element."""
    return _size_at(id(array) + _DATA_OFFSET).value


_probe = np.zeros(2)[1:]
if address(_probe) != _probe.ctypes.data:  # an implementation that lays its arrays out otherwise
    _ADDRESS = "{0}.ctypes.data"

    def address(array: np.ndarray) -> int:
        """The address of an array's first element."""
        return array.ctypes.data


def _resolve(annotation: Any, function: Callable[..., Any]) -> Any:
    """An annotation naming a NamedTuple of the kernel's module becomes that class; the rest stay text."""
    if isinstance(annotation, str):
        text = annotation.strip("'\"")
        return function.__globals__.get(text, text) if text.isidentifier() else text
    return annotation


def kernel(function: Callable[..., Any] | None = None, /, **variables: tuple[str, ...]) -> Any:
    """Declare a kernel; see this module's documentation for the parameter annotations.

    Parameters
    ----------
    function : callable
        The block function.
    **variables : tuple of str
        The dtypes of each type variable; ``T=("float32", "float64")`` unless given.
    """
    variables.setdefault("T", FLOATS)
    if function is None:
        return lambda f: Kernel(f, variables)
    return Kernel(function, variables)


def registry() -> list[Kernel]:
    """Every kernel declared so far, for warm-up and tests."""
    return list(_registry)
