"""Programs: the launches of a call, packed once; only the addresses of its arrays are left to fill in.

What a small call costs is Python, twice as much after a kernel that has been through the caches: so what follows from
shapes, dtypes and options alone is done once, and the call itself reads addresses, packs them between bytes that are
known, and hands the lot to a driver.

Whoever plans a call says what runs, in terms of *operands*: arrays of which all is known but where they lie::

    x, out = Operand(x.shape, x.dtype), Operand(out.shape, out.dtype)
    between = Operand((1000,), x.dtype)
    program = Program([first.on(x, between), second.on(between, out)], (x, out))
    program.run(x_array, out_array, address_of_memory_of(program.workspace_bytes))

What is not among the arguments, `between`, is workspace: it has its place from the first launch that mentions it to the
last. Operands are contiguous, and are sliced and reshaped as arrays are.
"""

from __future__ import annotations

import functools
import itertools
import struct
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _launch
from ._operands import Distance, Operand
from ._packing import ADDRESS_OF, address, words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["Distance", "Operand", "Program", "Step"]

# Of larger programs, of hundreds of steps, addresses are added to what their holes hold: written out, the function
# behind them would take more memory than the records.
LARGE_BYTES = 1 << 14
# Where one workspace ends another begins at a multiple of this: a cache line, and the widest vector.
_ALIGNMENT = 64


class Step(NamedTuple):
    """One launch of a program."""

    blocks: int
    cost: float  # nanoseconds that all blocks together take one core, roughly
    parts: tuple[bytes | Operand | Distance, ...]  # the record, with its header: 8 bytes for what is not known
    kept: tuple[Any, ...]  # arrays whose addresses are in it

    @property
    def shared(self) -> bool:
        """Whether blocks are worth sharing among threads."""
        return _launch.is_worth_sharing(self.blocks, self.cost)

    @property
    def size(self) -> int:
        return sum(len(part) if isinstance(part, bytes) else 8 for part in self.parts)


class Program:
    """Steps, one after the other, that work on `arguments`.

    Attributes
    ----------
    run : callable
        ``run(*arrays, workspace)``, with the address of `workspace_bytes` bytes; False, and nothing done, if an array
        is not aligned to its elements.
    """

    def __init__(self, steps: Sequence[Step], arguments: Sequence[Operand | None]) -> None:
        places, self.workspace_bytes = _workspace(steps, arguments)
        self.nbytes = sum(step.size for step in steps)
        self._all = steps, arguments, places

    @functools.cached_property
    def run(self) -> Callable[..., bool]:
        return (_write_run if self.nbytes <= LARGE_BYTES else _patching_run)(*self._all)

    def returning(self, make: Callable[[], np.ndarray], repair: Callable[[Any], Any]) -> Callable[..., np.ndarray]:
        """The function of all arguments but the last, which it makes and returns; the program needs no workspace.

        It takes as little time as a call can: it is one function. An array that is not aligned is replaced by
        ``repair(array)``.
        """
        if self.nbytes <= LARGE_BYTES:
            return _write_run(*self._all, make, repair)
        run = self.run

        def call(*arrays: Any) -> np.ndarray:
            out = make()
            if not run(*arrays, out):
                run(*map(repair, arrays), out)
            return out

        return call


def _workspace(steps: Sequence[Step], arguments: Sequence[Operand | None]) -> tuple[dict[Operand, int], int]:
    """Where in the workspace each operand that is no argument lies, and how much they need."""
    given = {operand.base for operand in arguments if operand is not None}
    first: dict[Operand, int] = {}
    last: dict[Operand, int] = {}
    for number, step in enumerate(steps):
        for operand in _operands(step):
            if operand.base not in given and operand.base.made_by is None:
                first.setdefault(operand.base, number)
                last[operand.base] = number
    places: dict[Operand, int] = {}
    end = 0
    for operand, number in first.items():  # in the order of their first steps
        taken = sorted((places[other], places[other] + other.nbytes) for other in places if last[other] >= number)
        place = 0
        for begin, stop in taken:
            if place + operand.nbytes <= begin:
                break
            place = max(place, -(-stop // _ALIGNMENT) * _ALIGNMENT)
        places[operand] = place
        end = max(end, place + operand.nbytes)
    return places, end


def _operands(step: Step) -> Iterable[Operand]:
    for part in step.parts:
        if isinstance(part, Distance):
            yield from part
        elif isinstance(part, Operand):
            yield part


def _bits_beside(operand: Operand) -> int:
    """The bits of an address that are 0 if the operand is aligned to its elements."""
    return operand.dtype.itemsize - 1


def _write_run(
    steps: Sequence[Step],
    arguments: Sequence[Operand | None],
    places: dict[Operand, int],
    make: Callable[[], np.ndarray] | None = None,
    repair: Callable[[Any], Any] | None = None,
) -> Callable[..., Any]:
    """The function behind a program, written out as `_packing.write_packer` does; for two arrays it is like::

        def run(a0, a1, workspace):
            d0 = words[id(a0) >> 3]
            d1 = words[id(a1) >> 3]
            if (d0 | d1) & 3:
                return False
            launch(pack(part0, d0, workspace, part1, workspace, d1 + 4096, part2))
            return True

    With `make` and `repair`, that of `Program.returning`::

        def run(a0):
            a1 = make()
            d0 = words[id(a0) >> 3]
            d1 = words[id(a1) >> 3]
            if (d0) & 3:
                a0 = repair(a0)
                d0 = words[id(a0) >> 3]
                d1 = words[id(a1) >> 3]
            launch(pack(part0, d0, part1, d1 + 4096, part2))
            return a1
    """
    # What is kept lives as long as its addresses may be used.
    scope: dict[str, Any] = {"words": words, "kept": [step.kept for step in steps]}
    names = {operand.base: i for i, operand in enumerate(arguments) if operand is not None}
    lines: list[str] = []
    known: dict[Operand, str] = {operand: f"workspace + {place}" for operand, place in places.items()}

    def base_address(base: Operand) -> str:
        if base not in known:
            number = len(known)
            array = f"a{names[base]}" if base in names else f"made{number}"
            if base.made_by is not None:
                scope[f"make{number}"], sources = base.made_by
                lines.append(f"{array} = make{number}({', '.join([f'a{names[source.base]}' for source in sources])})")
            lines.append(f"d{number} = {ADDRESS_OF.format(array)}")
            known[base] = f"d{number}"
        return known[base]

    def place(operand: Operand) -> str:
        return f"{base_address(operand.base)} + {operand.offset}".removesuffix(" + 0")

    def expression(part: Operand | Distance) -> str:  # not recursive: that were a cycle, which keeps `scope` alive
        if isinstance(part, Distance):
            return f"({place(part.there)} - ({place(part.here)})) // {part.here.dtype.itemsize}"
        return place(part)

    values = _write_values(steps, expression, scope)
    launch, slots = "launch", ""
    if any(step.shared for step in steps):
        scope["launch"] = _launch.run_shared
    else:  # what `_launch.run_alone` does
        scope["drivers"] = _launch
        launch, slots = "(drivers._serial or drivers.load_serial())", f", {sum(step.size for step in steps) // 8}"
    given = [f"a{i}" for i in range(len(arguments))]
    foreign = [base for base, i in names.items() if make is None or i < len(given) - 1]  # what is made is aligned
    beside = []
    for bits, bases in itertools.groupby(sorted(foreign, key=_bits_beside), key=_bits_beside):
        addresses = [known[base] for base in bases if base in known]
        if addresses and bits:
            beside.append(f"({' | '.join(addresses)}) & {bits}")
    addresses = "; ".join(lines) or "pass"
    first, refused, done = "pass", "return False", "True"
    if make is None:
        given.append("workspace=0")
    else:
        scope |= {"make": make, "repair": repair}
        done = given.pop()
        first = f"{done} = make()"
        refused = "; ".join([*(f"{name} = repair({name})" for name in given), addresses])
    source = f"""
def run({", ".join(given)}):
    {first}
    {addresses}
    if {" or ".join(beside) or "False"}:
        {refused}
    {launch}(pack({", ".join(values)}){slots})
    return {done}
"""
    exec(source, scope)
    return scope.pop("run")  # whose globals it is: no cycle


def _write_values(
    steps: Sequence[Step], expression: Callable[[Operand | Distance], str], scope: dict[str, Any]
) -> list[str]:
    """What ``pack`` takes to make the records of all steps; it is put into `scope`, with the bytes that are known."""
    parts = [part for step in steps for part in step.parts if part != b""]
    layout, values = "=", []
    for literal, group in itertools.groupby(parts, key=lambda part: isinstance(part, bytes)):
        if literal:
            text = b"".join(group)  # type: ignore[arg-type]
            scope[f"part{len(values)}"] = text
            layout += f"{len(text)}s"
            values.append(f"part{len(values)}")
        else:
            expressions = [expression(part) for part in group]  # type: ignore[arg-type]
            layout += "q" * len(expressions)
            values += expressions
    scope["pack"] = struct.Struct(layout).pack
    return values


def _patching_run(
    steps: Sequence[Step], arguments: Sequence[Operand | None], places: dict[Operand, int]
) -> Callable[..., bool]:
    """As `_write_run`, by arrays of holes: those of each operand, and those of each distance."""
    records = bytearray()
    slots_of: dict[Operand, list[int]] = {}
    distances: dict[tuple[Operand, Operand, int], list[int]] = {}
    for part in itertools.chain.from_iterable([step.parts for step in steps]):
        if isinstance(part, bytes):
            records += part
            continue
        if isinstance(part, Distance):
            ends, itemsize = (part.here.base, part.there.base), part.here.dtype.itemsize
            distances.setdefault((*ends, itemsize), []).append(len(records) // 8)
            known = (part.there.offset - part.here.offset) // itemsize
        else:
            slots_of.setdefault(part.base, []).append(len(records) // 8)
            known = part.offset + places.get(part.base, 0)
        records += struct.pack("=q", known)
    template = zlib.compress(records, 1)  # records of portions hardly differ: a hundredth remains
    holes = {base: np.array(where) for base, where in slots_of.items()}
    made = [(base, base.made_by) for base in holes if base.made_by is not None]
    given = [operand and operand.base for operand in arguments]
    beside = [(base, _bits_beside(base)) for base in holes if base in given]
    launch = _launch.run_shared if any(step.shared for step in steps) else _launch.run_alone

    def run(*operands: Any) -> bool:
        workspace = operands[len(given)] if len(operands) > len(given) else 0
        arrays = {base: array for base, array in zip(given, operands, strict=False) if base is not None}
        for base, (make, sources) in made:
            arrays[base] = make(*[arrays[source.base] for source in sources])
        addresses = {base: address(array) for base, array in arrays.items()}
        if any(addresses[base] & bits for base, bits in beside):
            return False
        slots = np.frombuffer(bytearray(zlib.decompress(template)), np.int64)
        for base, where in holes.items():
            slots[where] += addresses.get(base, workspace)
        for (here, there, itemsize), where in distances.items():
            slots[where] += (addresses[there] - addresses[here]) // itemsize
        launch(slots.tobytes())
        return True

    run.kept = [step.kept for step in steps]  # type: ignore[attr-defined]  # alive as long as their addresses may be used
    return run
