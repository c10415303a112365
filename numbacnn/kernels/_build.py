"""`@kernel`: from a readable Python function to machine code behind a C entry point.

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

import functools
import inspect
import itertools
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _cache, _entry, _launch
from ._device import device, inlined, intrinsic
from ._packing import Rule, address, write_packer
from ._parameters import SPECIAL, Parameter
from ._program import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["FLOATS", "Kernel", "Prepared", "address", "device", "inlined", "intrinsic", "kernel", "registry"]

FLOATS = ("float32", "float64")

_registry: list[Kernel] = []


class _Variant:
    """A kernel for one binding of its type variables: entry point and argument packing."""

    def __init__(self, kernel: Kernel, key: tuple[str, ...]) -> None:
        binding = dict(zip(kernel.variables, key, strict=True))
        self.name = kernel.name
        self.entry = kernel.load(key)
        self.rules = [
            Rule(
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
        self.record = write_packer(
            self.name, self.rules, layout.pack, ("entry", "blocks", "size", "shared"), (), ("blocks", "shared"), header
        )


class Prepared:
    """A launch of which only the first arguments are left open; see `Kernel.prepare`."""

    def __init__(
        self, variant: _Variant, blocks: int, constants: tuple[Any, ...], cost: float, backwards: bool
    ) -> None:
        self._count = len(variant.rules) - len(constants)
        self._rules, rules = variant.rules[: self._count], variant.rules[self._count :]
        self._name = variant.name
        self._constants = constants  # the arrays among them must live as long as their addresses
        self._blocks, self._cost = blocks, cost
        mode = _launch.is_worth_sharing(blocks, cost) * _launch.SHARED + backwards * _launch.BACKWARDS
        self._head = struct.pack("=" + _launch.HEADER, variant.entry, blocks, variant.size, mode)
        parts = [part for rule, c in zip(rules, constants, strict=True) for part in rule.parts(variant.name, c)]
        self._tail = b"".join(parts)

    @functools.cached_property
    def _record(self) -> Callable[..., bytes]:
        layout = struct.Struct(f"={len(self._head)}s{''.join(rule.format for rule in self._rules)}{len(self._tail)}s")
        ends = {"head": self._head, "tail": self._tail}
        return write_packer(self._name, self._rules, layout.pack, ("head",), ("tail",), (), ends)

    def _check_count(self, arguments: tuple[Any, ...]) -> None:
        if len(arguments) != self._count:
            raise TypeError(f"{self._name}, as prepared, takes {self._count} arguments, got {len(arguments)}")

    def on(self, *arguments: Any) -> Step:
        """The launch with its first arguments, among them operands of a program, as a step of that."""
        self._check_count(arguments)
        parts = [part for rule, a in zip(self._rules, arguments, strict=True) for part in rule.parts(self._name, a)]
        kept = [argument for argument in arguments if isinstance(argument, np.ndarray)]
        return Step(self._blocks, self._cost, (self._head, *parts, self._tail), (*kept, *self._constants))

    def __call__(self, *arguments: Any) -> None:
        """Run all blocks."""
        self._check_count(arguments)
        _launch.run(self._record(*arguments))


class Kernel:
    """A block function with typed parameters; calling it runs all its blocks.

    ``kernel(blocks, *arguments, cost=ns)`` runs blocks ``0 .. blocks - 1`` in parallel, or serially when the whole
    takes about `cost` nanoseconds on one core and that is too little to share. It returns when all are done.
    """

    def __init__(self, function: Callable[..., Any], variables: dict[str, tuple[str, ...]]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        names = list(inspect.signature(function).parameters)
        self.specials = [name for name in names if name in SPECIAL]
        hints = {name: _resolve(annotation, function) for name, annotation in inspect.get_annotations(function).items()}
        self.parameters = [Parameter(name, hints[name]) for name in names if name not in SPECIAL]
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
        self.compilations = 0  # so far, in this process
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
            _launch.run(record)

    def prepare(
        self,
        dtypes: tuple[np.dtype[Any], ...],
        blocks: int,
        *constants: Any,
        cost: float = float("inf"),
        backwards: bool = False,
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
        backwards : bool, default False
            Each thread begins with the last of its blocks: for a second walk over an array that no cache holds, which
            finds there what the first one read last.
        """
        return Prepared(self._variant(dtypes), blocks, constants, cost, backwards)

    def on(self, blocks: int, *arguments: Any, cost: float = float("inf")) -> Step:
        """The launch as a step of a program, of whose operands some are among the arguments."""
        return self.prepare(tuple([arguments[i].dtype for i in self._binders]), blocks, cost=cost).on(*arguments)

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
        self.compilations += 1
        machine, module = self._module(key)
        return machine.emit_object(module)

    def assembly(self, *key: str) -> str:
        """The optimised assembly for the dtypes `key` (for inspection and for tests)."""
        machine, module = self._module(key)
        return machine.emit_assembly(module)

    def _module(self, key: tuple[str, ...]) -> tuple[Any, Any]:
        """LLVM's target machine, and the optimised module."""
        binding = dict(zip(self.variables, key, strict=True))
        return _entry.module(self.function, self._symbol(key), self.specials, self.parameters, binding)


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
