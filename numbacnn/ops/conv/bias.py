"""The row that sums start from: the bias, laid out as the panels of weights are, or zeros."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ...kernels._operands import Operand

_zero_rows: dict[np.dtype[Any], np.ndarray] = {}


def zero_row(dtype: np.dtype[Any], elements: int) -> np.ndarray:
    """A row of zeros, which taps in the padding read, too: kept, and grown when more elements are asked for."""
    row = _zero_rows.get(dtype)
    if row is None or row.size < elements:
        row = _zero_rows[dtype] = np.zeros(max(4096, elements), dtype)
    return row


def padded_bias(
    bias: Operand, groups: int, lanes: int, padded: int, channels: slice = slice(None), columns: int = 1, more: int = 0
) -> Operand:
    """The bias of `groups` times `lanes` channels, with every group padded to `padded` lanes, and `more` zeros.

    They are the `channels` of the whole bias, which is repeated for each of `columns`.
    """
    if lanes == padded and columns == 1 and more == 0:
        return bias[channels]
    make = functools.partial(_padded, groups, lanes, padded, channels, columns, more)
    return Operand.made(make, bias.dtype, bias)


def _padded(
    groups: int, lanes: int, padded: int, channels: slice, columns: int, more: int, bias: np.ndarray
) -> np.ndarray:
    wider = np.zeros(groups * padded + more, bias.dtype)
    if columns > 1:
        bias = np.tile(bias, columns)
    if groups == 1:  # small convolutions feel what views cost
        wider[:lanes] = bias[channels]
    else:
        wider[: groups * padded].reshape(groups, padded)[:, :lanes] = bias[channels].reshape(groups, lanes)
    return wider
