"""The row that sums start from: the bias, laid out as the panels of weights are, or zeros."""

from __future__ import annotations

from typing import Any

import numpy as np

_zero_rows: dict[np.dtype[Any], np.ndarray] = {}


def zero_row(dtype: np.dtype[Any], elements: int) -> np.ndarray:
    """A row of zeros, which taps in the padding read, too: kept, and grown when more elements are asked for."""
    row = _zero_rows.get(dtype)
    if row is None or row.size < elements:
        row = _zero_rows[dtype] = np.zeros(max(4096, elements), dtype)
    return row


def padded_bias(bias: np.ndarray, groups: int, lanes: int, padded: int) -> np.ndarray:
    """The contiguous bias of `groups` times `lanes` channels, with every group padded to `padded` lanes."""
    if lanes == padded:
        return bias
    wider = np.zeros(groups * padded, bias.dtype)
    if groups == 1:  # small convolutions feel what views cost
        wider[:lanes] = bias
    else:
        wider.reshape(groups, padded)[:, :lanes] = bias.reshape(groups, lanes)
    return wider
