"""Labelled arrays from a NumPy .npz file, checked before anything is trained on them."""

from __future__ import annotations

import os
import zipfile
import zlib
from typing import Any

import numpy as np

from ..errors import DTypeError, OptionError, ShapeError

CHANNELS = ("auto", "none", "first", "last")


def load_npz(
    path: str | os.PathLike[str], *, channels: str = "auto", dtype: Any = np.float32, labels: bool = True
) -> tuple[np.ndarray, np.ndarray | None]:
    """Samples ``x`` and labels ``y`` from an .npz file.

    Parameters
    ----------
    path : str or path
        A file written by `numpy.savez`, holding ``x``, real numbers, and ``y``, one integer per sample. Nothing
        in it is unpickled.
    channels : {"auto", "none", "first", "last"}
        What the axes of ``x`` are: ``none`` (N, *spatial), ``first`` (N, C, *spatial), ``last`` (N, *spatial, C).
        ``auto`` takes images for granted where there is a choice:

        ============  ==================  ==================================================
        axes of x     read as             otherwise
        ============  ==================  ==================================================
        2             (N, L)
        3             (N, H, W)           ``first`` or ``last`` for signals of several channels
        4             (N, C, H, W)        ``last`` for (N, H, W, C), ``none`` for volumes
        5             (N, C, D, H, W)     ``last``
        ============  ==================  ==================================================
    dtype : dtype, default float32
        What ``x`` is converted to: float32 or float64.
    labels : bool, default True
        Whether ``y`` must be there. If False, it is read if it is.

    Returns
    -------
    x : ndarray, shape (N, C, *spatial)
        With one to three spatial axes.
    y : ndarray of int64, shape (N,), or None

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OptionError, ShapeError, DTypeError
        If the file is not an .npz file, lacks an array, or an array is unfit; the message says how.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from numbacnn.data import load_npz
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "signals.npz")
    ...     np.savez(path, x=np.zeros((6, 100)), y=[0, 1, 2, 0, 1, 2])
    ...     x, y = load_npz(path)
    >>> x.shape, x.dtype.name, y
    ((6, 1, 100), 'float32', array([0, 1, 2, 0, 1, 2]))
    """
    names, arrays = _read(path)
    if "x" not in arrays or (labels and "y" not in arrays):
        wanted = "arrays named x and y" if labels else "an array named x"
        raise OptionError(f"{path}: {wanted} expected, found {', '.join(names) or 'none'}")
    x = _with_channels(_samples(arrays["x"], path, dtype), channels, path)
    return x, _labels(arrays["y"], len(x), path) if "y" in arrays else None


def _read(path: str | os.PathLike[str]) -> tuple[list[str], dict[str, np.ndarray]]:
    """The names of all arrays in the file, and x and y as far as they are there."""
    try:
        with open(path, "rb") as stream, np.lib.npyio.NpzFile(stream, allow_pickle=False) as file:
            names = list(file.files)
            return names, {name: file[name] for name in ("x", "y") if name in names}
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise OptionError(f"{path}: not a readable .npz file of numbers ({error})") from error


def _samples(x: np.ndarray, path: Any, dtype: Any) -> np.ndarray:
    if x.dtype.kind not in "fiub":
        raise DTypeError(f"{path}: x must hold real numbers, got dtype {x.dtype}")
    if not 2 <= x.ndim <= 5 or 0 in x.shape:
        raise ShapeError(
            f"{path}: x must be (N, *spatial) or (N, C, *spatial) with 1 to 3 spatial axes, got shape {x.shape}"
        )
    with np.errstate(over="ignore"):  # a value too large for float32 is reported below, with its number
        x = x.astype(dtype)
    bad = x.size - np.count_nonzero(np.isfinite(x))
    if bad:
        raise OptionError(f"{path}: x has {bad} values that are NaN or infinite in {x.dtype}")
    return x


def _with_channels(x: np.ndarray, channels: str, path: Any) -> np.ndarray:
    if channels not in CHANNELS:
        raise OptionError(f"channels must be one of {', '.join(CHANNELS)}, got {channels!r}")
    if channels == "auto":
        channels = "none" if x.ndim < 4 else "first"
    if channels == "none":
        x = x[:, None]
    elif channels == "last":
        x = np.moveaxis(x, -1, 1)
    if not 3 <= x.ndim <= 5:
        raise ShapeError(f"{path}: with channels={channels}, x has {x.ndim - 2} spatial axes; 1 to 3 are possible")
    return x


def _labels(y: np.ndarray, count: int, path: Any) -> np.ndarray:
    if y.dtype.kind not in "iub":
        raise DTypeError(f"{path}: y must hold integer labels, got dtype {y.dtype}")
    if y.shape != (count,):
        raise ShapeError(f"{path}: y must hold one label per sample, shape ({count},), got {y.shape}")
    return y.astype(np.int64)
