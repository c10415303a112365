"""Padding: from the forms a user may write to (low, high) per axis, and from a padded position to a source index.

No padded copy of an array is ever made. A padded position is an index outside the input, and `source_index` says
which element of the input stands there.
"""

from __future__ import annotations

import functools
import os
import sys
import warnings
from typing import Any, overload

import numpy as np

from ..errors import OptionError, PaddingWarning
from ._check import check_choice, check_integer, check_per_axis, is_sequence

__all__ = ["PADDING_MODES", "resolve_padding", "resolve_padding_mode", "same_padding", "source_index", "warn_padding"]

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")

# source_index keeps its small tables: beyond this, building one again is cheap beside the work that reads it.
_CACHED_ELEMENTS = 1 << 13


def _valid(size: int, span: int, stride: int) -> tuple[int, int]:
    return 0, 0


def _same(size: int, span: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + span - size, 0)
    return total // 2, total - total // 2


def _same_lower(size: int, span: int, stride: int) -> tuple[int, int]:
    low, high = _same(size, span, stride)
    return high, low


def _same_size(size: int, span: int, stride: int) -> tuple[int, int]:
    total = (size - 1) * stride + span - size
    return total // 2, total - total // 2


def _causal(size: int, span: int, stride: int) -> tuple[int, int]:
    return span - 1, 0


# name -> (input size, samples that the dilated kernel spans, stride) -> (low, high)
_NAMED = {"valid": _valid, "same": _same, "same_lower": _same_lower, "same_size": _same_size, "causal": _causal}


def resolve_padding(
    padding: Any, size: tuple[int, ...], span: tuple[int, ...], stride: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding on the low and on the high side of every axis.

    Parameters
    ----------
    padding : int, str or sequence
        One integer for all sides; or, per axis, an integer for both sides or a ``(low, high)`` pair; or

        - ``"valid"``: none;
        - ``"same"``: output size ``ceil(size / stride)``, an odd sample on the high side (Keras, ONNX ``SAME_UPPER``);
        - ``"same_lower"``: likewise, an odd sample on the low side;
        - ``"same_size"``: output size equals the input size whatever the stride;
        - ``"causal"``: all on the low side, so that output ``o`` sees no input after ``stride * o``.
    size, span, stride : tuple of int
        Per axis: input size, samples spanned by the dilated kernel (``dilation * (kernel - 1) + 1``), stride.

    Returns
    -------
    low, high : tuple of int

    Raises
    ------
    OptionError
        Unknown name, negative, not integers, or the wrong number of axes.

    Examples
    --------
    >>> resolve_padding("same", (5, 6), (3, 4), (1, 1))
    ((1, 1), (1, 2))
    >>> resolve_padding(((2, 0), 1), (5, 6), (3, 4), (1, 1))
    ((2, 1), (0, 1))
    """
    rank = len(size)
    if type(padding) is int and padding >= 0:
        return (padding,) * rank, (padding,) * rank
    if isinstance(padding, str):
        rule = _NAMED[check_choice("padding", padding, _NAMED)]
        sides = [rule(*axis) for axis in zip(size, span, stride, strict=True)]
    elif is_sequence(padding) or isinstance(padding, np.ndarray):
        if len(padding) != rank:
            hint = "; for one (low, high) pair write ((low, high),)" if rank == 1 and len(padding) == 2 else ""
            raise OptionError(
                f"padding must be an integer, a name, or one integer or (low, high) pair for each of {rank} spatial "
                f"axes, got {padding!r}{hint}"
            )
        sides = [_sides(axis) for axis in padding]
    else:
        sides = [_sides(padding)] * rank
    return tuple(low for low, _ in sides), tuple(high for _, high in sides)


def _sides(value: Any) -> tuple[int, int]:
    if not is_sequence(value):
        value = (value, value)
    if len(value) != 2:
        raise OptionError(f"padding of one axis must be an integer or a (low, high) pair, got {value!r}")
    return check_integer("padding", value[0], 0), check_integer("padding", value[1], 0)


def resolve_padding_mode(padding_mode: Any, rank: int) -> tuple[str, ...]:
    """The padding mode of every axis, from one name or one per axis.

    Examples
    --------
    >>> resolve_padding_mode("reflect", 2)
    ('reflect', 'reflect')
    """
    modes = (padding_mode,) * rank if isinstance(padding_mode, str) else padding_mode
    if not isinstance(modes, (tuple, list)) or len(modes) != rank:
        raise OptionError(f"padding_mode must be a name or {rank} names, one per spatial axis, got {padding_mode!r}")
    return tuple(check_choice("padding_mode", mode, PADDING_MODES) for mode in modes)


@overload
def same_padding(input_size: int, kernel_size: int, stride: int = ..., dilation: int = ...) -> int: ...
@overload
def same_padding(
    input_size: Any, kernel_size: Any, stride: Any = ..., dilation: Any = ...
) -> int | tuple[int, ...]: ...
def same_padding(input_size: Any, kernel_size: Any, stride: Any = 1, dilation: Any = 1) -> int | tuple[int, ...]:
    r"""The symmetric padding that keeps a convolution's size, rounded down.

    .. math:: P = \left\lfloor \frac{(S - 1) I - S + K_\mathrm{eff}}{2} \right\rfloor,
              \qquad K_\mathrm{eff} = D (K - 1) + 1

    Where the total padding is odd, `P` on both sides gives one output too few; ``padding="same_size"`` puts the odd
    sample on the high side instead.

    Parameters
    ----------
    input_size, kernel_size, stride, dilation : int or sequence of int
        Sequences give one value per axis; an integer beside a sequence stands for all axes.

    Returns
    -------
    int or tuple of int
        A tuple if any argument is a sequence.

    Examples
    --------
    >>> same_padding(32, 3)
    1
    >>> same_padding((32, 32), (3, 5), dilation=2)
    (2, 4)
    """
    options = {"input_size": input_size, "kernel_size": kernel_size, "stride": stride, "dilation": dilation}
    lengths = [len(value) for value in options.values() if is_sequence(value)]
    axes = zip(
        *(check_per_axis(name, value, max(lengths, default=1), 1) for name, value in options.items()), strict=True
    )
    result = tuple(((s - 1) * i - s + d * (k - 1) + 1) // 2 for i, k, s, d in axes)
    return result if lengths else result[0]


def source_index(
    input_size: int, output_size: int, kernel_size: int, stride: int, dilation: int, pad_low: int, padding_mode: str
) -> np.ndarray:
    """Which input element each kernel tap of each output reads, along one axis.

    The position of tap ``k`` for output ``o`` is ``stride * o + dilation * k - pad_low``. Positions outside the
    input are zeros (index -1) or, by `padding_mode`, mirrored without repeating the edge ("reflect"), clamped
    ("replicate") or wrapped round ("circular"), as often as needed.

    A block of outputs that begins at ``o0`` is had with ``pad_low - stride * o0``: `pad_low` may be negative.

    Returns
    -------
    ndarray of int64, shape (output_size, kernel_size)
        Read-only.

    Examples
    --------
    >>> source_index(4, 4, 3, 1, 1, 1, "zeros")
    array([[-1,  0,  1],
           [ 0,  1,  2],
           [ 1,  2,  3],
           [ 2,  3, -1]])
    >>> source_index(4, 4, 3, 1, 1, 1, "reflect")[:, 0]
    array([1, 0, 1, 2])
    """
    build = _cached_source_index if output_size * kernel_size <= _CACHED_ELEMENTS else _source_index
    return build(input_size, output_size, kernel_size, stride, dilation, pad_low, padding_mode)


def _source_index(
    input_size: int, output_size: int, kernel_size: int, stride: int, dilation: int, pad_low: int, padding_mode: str
) -> np.ndarray:
    first = np.arange(output_size, dtype=np.int64) * stride - pad_low
    position = first[:, None] + np.arange(kernel_size, dtype=np.int64) * dilation
    if padding_mode == "zeros":
        position[(position < 0) | (position >= input_size)] = -1
    elif padding_mode == "replicate":
        np.clip(position, 0, input_size - 1, out=position)
    elif padding_mode == "circular":
        position %= input_size
    else:
        position %= 2 * (input_size - 1) or 1
        np.minimum(position, 2 * (input_size - 1) - position, out=position)
    position.setflags(write=False)
    return position


_cached_source_index = functools.lru_cache(maxsize=256)(_source_index)

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def warn_padding(message: str) -> None:
    """Issue a `PaddingWarning` at the user's line: the innermost one outside this package."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
        level += 1
    warnings.warn(message, PaddingWarning, stacklevel=level)
