"""Arguments of a launch, checked and packed into the record of 8-byte slots that a kernel's entry point reads."""

from __future__ import annotations

import ctypes
import functools
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ._operands import Distance, Operand

if TYPE_CHECKING:
    from collections.abc import Callable

# The address of an array's first element is read from the array object, ten times quicker than by `ndarray.ctypes`:
# PyArrayObject is the object header, then `char *data`. `words` is all memory from the size of a header on, of which
# only such words are read: an array at address `a` has its at index `a / size of a word`.
_WORD = ctypes.sizeof(ctypes.c_size_t)
words: ctypes.Array[ctypes.c_size_t] = (ctypes.c_size_t * (1 << 8 * _WORD - 6)).from_address(object.__basicsize__)
_SHIFT = _WORD.bit_length() - 1
# As an expression, for functions that are written out.
ADDRESS_OF = f"words[id({{0}}) >> {_SHIFT}]"


def address(array: np.ndarray) -> int:
    """The address of an array's first element."""
    return words[id(array) >> _SHIFT]


_probe = np.zeros(2)[1:]
if address(_probe) != _probe.ctypes.data:  # an implementation that lays its arrays out otherwise
    ADDRESS_OF = "{0}.ctypes.data"

    def address(array: np.ndarray) -> int:
        """The address of an array's first element."""
        return array.ctypes.data


class Rule(NamedTuple):
    """What one argument must be and the slots that it fills."""

    name: str
    dtype: np.dtype[Any] | None  # of an array; None for anything else
    ndim: int  # axes of an array that must be C-contiguous; 0: any strides
    is_record: bool
    format: str  # `struct` format of its slots

    def parts(self, kernel: str, argument: Any) -> list[Any]:
        """Its slots as bytes, but an operand of a program or a distance of two as itself."""
        if isinstance(argument, Distance):
            return [argument]
        if self.dtype is None:
            return [struct.pack("=" + self.format, *(argument if self.is_record else (argument,)))]
        shape = struct.pack(f"={self.ndim}q", *argument.shape[: self.ndim])
        if not isinstance(argument, Operand):
            check(kernel, self, argument)
            return [struct.pack("=q", address(argument)) + shape]
        if argument.dtype != self.dtype or self.ndim not in (0, argument.ndim):
            rank = f"{self.ndim}-D" if self.ndim else "of any rank"
            raise TypeError(
                f"{kernel}: {self.name} must be {rank} and {self.dtype}, got {argument.ndim}-D and {argument.dtype}"
            )
        return [argument, shape]


def write_packer(
    kernel: str,
    rules: list[Rule],
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
            return pack(words[id(a0) >> 3], *a1, a2)
    """
    names = [f"a{i}" for i in range(len(rules))]
    scope = {"pack": pack, "words": words, "check": functools.partial(_check_all, kernel, rules), **(values or {})}
    doubts, slots = [], []
    for name, rule in zip(names, rules, strict=True):
        if rule.dtype is None:
            slots.append(("*" if rule.is_record else "") + name)
            continue
        scope[f"dtype_{name}"] = rule.dtype
        doubts.append(f"{name}.dtype is not dtype_{name}")
        slots.append(ADDRESS_OF.format(name))
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


def _check_all(kernel: str, rules: list[Rule], *arguments: Any) -> None:
    for argument, rule in zip(arguments, rules, strict=True):
        if rule.dtype is not None:
            check(kernel, rule, argument)


def check(kernel: str, rule: Rule, array: np.ndarray) -> None:
    """Raise if an array is not what its annotation says."""
    if array.dtype != rule.dtype:
        raise TypeError(f"{kernel}: {rule.name} must be {rule.dtype}, got {array.dtype}")
    if rule.ndim and not (array.ndim == rule.ndim and array.flags.c_contiguous):
        raise ValueError(
            f"{kernel}: {rule.name} must be a C-contiguous {rule.ndim}-D array, got shape {array.shape} "
            f"with strides {array.strides}"
        )
