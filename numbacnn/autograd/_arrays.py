"""Which arrays a tensor may hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import DTypeError


def numeric_array(data: Any) -> np.ndarray:
    """An ndarray of native bools, integers or floats; an ndarray that already is one is not copied."""
    if type(data) is np.ndarray:
        array = data
    elif isinstance(data, np.ma.MaskedArray):
        raise DTypeError("a masked array's mask would be ignored; fill it with data.filled(value)")
    else:
        array = np.asarray(data)
        if array.dtype == np.float64 and not hasattr(_first_element(data), "dtype"):
            array = array.astype(np.float32)
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"a tensor holds bools, integers or floats, got dtype {array.dtype}")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _first_element(data: Any) -> Any:
    """What nested lists are made of: Python numbers become float32, arrays and NumPy numbers keep their precision."""
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return data


def require_float(dtype: np.dtype[Any]) -> None:
    """Refuse to differentiate what is not made of floats."""
    if dtype.kind != "f":
        raise DTypeError(
            f"only floating-point tensors can require a gradient, this one is {dtype}; convert it with "
            ".astype(np.float32)"
        )
