"""What convolutions and pools share when their sizes are checked: limits, messages and warnings about extents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

from ..errors import ShapeError
from ._check import check_integer
from .padding import warn_padding

Shape = tuple[int, ...]
Triple = tuple[int, int, int]
_Item = TypeVar("_Item")

# Every array stays below 2**62 bytes at 8 bytes an element, so no size or byte offset overflows an int64.
_MAX_ELEMENTS = 2**59
_AXES = ("D", "H", "W")


def lift(axes: Sequence[_Item], filler: _Item) -> tuple[_Item, _Item, _Item]:
    """Per-axis values for (D, H, W), with `filler` for the axes a lower rank lacks.

    Examples
    --------
    >>> lift((5, 7), 1)
    (1, 5, 7)
    """
    return (filler,) * (3 - len(axes)) + tuple(axes)  # type: ignore[return-value]


def lower(axes: Sequence[_Item], rank: int) -> tuple[_Item, ...]:
    """The last `rank` of three per-axis values: the inverse of `lift`.

    Examples
    --------
    >>> lower((1, 5, 7), 2)
    (5, 7)
    """
    return tuple(axes[3 - rank :])


def as_hashable(value: Any) -> Any:
    """Lists and arrays as tuples, at any depth."""
    if isinstance(value, (list, tuple)):
        return tuple(map(as_hashable, value))
    return as_hashable(value.tolist()) if hasattr(value, "tolist") else value


def check_shape(name: str, shape: Any) -> Shape:
    if not isinstance(shape, tuple) or not 3 <= len(shape) <= 5:
        raise ShapeError(f"{name} must have 3 to 5 axes (two and 1 to 3 spatial ones), got shape {shape}")
    shape = tuple(check_integer(f"every size of {name}.shape", extent, 0) for extent in shape)
    if 0 in shape[1:] or (name == "weight" and shape[0] == 0):
        legal = "only the batch may be empty" if name == "input" else "no axis may be empty"
        raise ShapeError(f"{name} of shape {shape} is empty; {legal}")
    return check_elements(name, shape)


def check_elements(name: str, shape: Shape) -> Shape:
    if math.prod(extent or 1 for extent in shape) > _MAX_ELEMENTS:
        raise ShapeError(f"{name} of shape {shape} has too many elements: its size would overflow 64-bit integers")
    return shape


def check_magnitudes(*options: Shape) -> None:
    for value in (value for option in options for value in option):
        if value > _MAX_ELEMENTS:
            raise ShapeError(
                f"stride, dilation or padding of {value} is too large: sizes would overflow 64-bit integers"
            )


def axis_name(axis: int, rank: int) -> str:
    """How messages call a spatial axis: its index in the array and its letter."""
    return f"axis {axis + 2} ({_AXES[3 - rank + axis]})"


def check_fit(size: Shape, kernel: Shape, dilation: Shape, low: Shape, high: Shape) -> None:
    """At least one window must fit into the padded input."""
    for axis, (i, k, d, p, q) in enumerate(zip(size, kernel, dilation, low, high, strict=True)):
        span = d * (k - 1) + 1
        if i + p + q < span:
            raise ShapeError(
                f"{axis_name(axis, len(size))}: the kernel spans {span} samples (size {k}, dilation {d}) but the "
                f"padded input has only {i + p + q} ({i} + padding {p} + {q}); "
                f"it would fit with padding={-(-(span - i) // 2)}"
            )


def warn_unread(size: Shape, span: Shape, stride: Shape, low: Shape, high: Shape) -> None:
    """Warn of input samples lost at the high border, beyond the gaps that a stride larger than the kernel leaves."""
    for axis, (i, k, s, p, q) in enumerate(zip(size, span, stride, low, high, strict=True)):
        lost = (i + p + q - k) % s - max(s - k, 0) - q
        if lost > 0:
            samples = "sample is" if lost == 1 else f"{lost} samples are"
            warn_padding(
                f"{axis_name(axis, len(size))}: the last {samples} never read "
                f"(size {i}, padding {p} + {q}, kernel span {k}, stride {s})"
            )


def warn_even(padding: Any, span: Shape) -> None:
    for axis, k in enumerate(span):
        if padding in ("same", "same_lower") and k % 2 == 0:
            warn_padding(
                f"{axis_name(axis, len(span))}: padding={padding!r} with a kernel that spans an even number of samples "
                f"({k}) shifts the output by half a sample"
            )
