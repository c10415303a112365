"""Which algorithm runs a convolution: an ordered list, and the first that accepts.

An algorithm is a module with a ``name``, ``accepts(direction, geometry)`` (None, or the reason why not) and one
function per direction, which returns the steps of a program (see `program`). The last one accepts everything. To add
one: write its kernel file, its module here, and a line below.

An algorithm may also have ``declines(direction, geometry, itemsize)``, the reason why it is not worth while though it
could run, and ``exact = False`` if it rounds more than a sum of products. Both matter only where nobody asked for it by
name.
``finishes`` names the fields of a `finish.Finish` that its ``forward`` takes care of.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

from ...errors import OptionError
from ..geometry import collapse, part_taps
from . import (
    col2im,
    depthwise,
    fft,
    grouped,
    indirect,
    lane_sums,
    patches,
    periods,
    pointwise,
    row_runs,
    strips,
    turned,
    winograd,
)

if TYPE_CHECKING:
    from ..geometry import ConvGeometry

DIRECTIONS = ("forward", "backward_data", "backward_weight")
ALGORITHMS: tuple[Any, ...] = (
    pointwise,
    fft,
    periods,
    depthwise,
    grouped,
    strips,
    winograd,
    patches,
    turned,
    lane_sums,
    row_runs,
    col2im,
    indirect,
)


class Choice(NamedTuple):
    """The algorithm that runs, and why those before it in the list refused.

    The geometry is what runs: see `what_runs`.
    """

    direction: str
    geometry: ConvGeometry
    algorithm: str
    refused: tuple[tuple[str, str], ...]
    measured: bool = False  # under `autotune`

    def __str__(self) -> str:
        lines = [f"{self.direction}: {self.algorithm}{' (measured)' if self.measured else ''}"]
        lines += [f"  not {name}: {reason}" for name, reason in self.refused]
        return "\n".join(lines)


@functools.lru_cache(maxsize=4096)
def plan_conv(
    direction: str, geometry: ConvGeometry, algorithm: str = "auto", precision: str = "fast", itemsize: int = 4
) -> Choice:
    """Choose the algorithm for one direction of a convolution of elements of `itemsize` bytes. Pure, and remembered.

    Raises
    ------
    OptionError
        `algorithm` is unknown, or does not take this problem (there is no falling back from an explicit choice).
    """
    names = [candidate.name for candidate in ALGORITHMS]
    if algorithm not in ("auto", *names):
        raise OptionError(f"algorithm must be one of auto, {', '.join(names)}; got {algorithm!r}")
    geometry = collapse(geometry) if algorithm != "auto" else what_runs(direction, geometry)
    refused: list[tuple[str, str]] = []
    for candidate in ALGORITHMS:
        if algorithm not in ("auto", candidate.name):
            continue
        reason = candidate.accepts(direction, geometry)
        if reason is None and algorithm == "auto":
            reason = _passed_over(candidate, direction, geometry, precision, itemsize)
        if reason is None:
            return Choice(direction, geometry, candidate.name, tuple(refused))
        if algorithm == candidate.name:
            raise OptionError(f"algorithm={algorithm!r} cannot run {direction} of this convolution: {reason}")
        refused.append((candidate.name, reason))
    raise AssertionError("the general algorithm accepts everything")


def what_runs(direction: str, geometry: ConvGeometry) -> ConvGeometry:
    """The geometry that is judged instead of a user's: the same results, shown from the easiest side."""
    geometry = collapse(geometry)
    return part_taps(geometry) if direction == "backward_data" else geometry


def candidates(direction: str, geometry: ConvGeometry, precision: str) -> tuple[dict[str, str], list[str]]:
    """Who cannot run a problem at this precision, with reasons, and who can, worth while or not."""
    refused, able = {}, []
    for candidate in ALGORITHMS:
        reason = candidate.accepts(direction, geometry) or _too_coarse(candidate, precision)
        if reason is None:
            able.append(candidate.name)
        else:
            refused[candidate.name] = reason
    return refused, able


def _too_coarse(candidate: Any, precision: str) -> str | None:
    return "precision is 'exact'" if precision == "exact" and not getattr(candidate, "exact", True) else None


def _passed_over(candidate: Any, direction: str, geometry: ConvGeometry, precision: str, itemsize: int) -> str | None:
    """Why "auto" does not choose an algorithm that could run."""
    if reason := _too_coarse(candidate, precision):
        return reason
    declines = getattr(candidate, "declines", None)
    return declines(direction, geometry, itemsize) if declines else None


def module(name: str) -> Any:
    """The algorithm called `name`."""
    return next(candidate for candidate in ALGORITHMS if candidate.name == name)
