"""Save and load nested states without pickle: a file holds data only, and loading one can run no code.

The file is a ZIP archive: ``index.json`` describes the structure, ``arrays/0.npy``, ``arrays/1.npy`` ... hold the
arrays in NumPy's own format, so that any tool that opens archives can look inside.

In the index, None, bools, strings, numbers and lists stand for themselves. Everything else is an object with one key:
``{"dict": [[key, value], ...]}``, ``{"tuple": [...]}``, ``{"float": "nan"}`` (what JSON has no number for),
``{"array": i}``, ``{"scalar": i}`` (a NumPy number) and ``{"tensor": i, ...}``.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import secrets
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from .autograd import Parameter, Tensor
from .errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

__all__ = ["load", "save"]

_FORMAT = "numbacnn"
_VERSION = 1
_INDEX = "index.json"

# What reading a damaged archive, index or array may raise.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    NotImplementedError,
    OverflowError,
    RecursionError,
)


def save(state: Any, path: str | os.PathLike[str]) -> None:
    """Write a state to a file, all of it or nothing.

    The file is written beside its place under another name, flushed to the disk, and renamed: whatever happens on the
    way, a file that was there before stays whole.

    Parameters
    ----------
    state : nested dict, list, tuple
        Of arrays (any dtype but object), tensors, numbers, strings, bools and None. Keys of dicts are strings,
        numbers, bools, None or tuples of them.
    path : str or path-like

    Raises
    ------
    CheckpointError
        The state holds something else; nothing has been written.
    OSError
        The file could not be written.

    Examples
    --------
    >>> import tempfile
    >>> import numbacnn as nc
    >>> layer = nc.nn.Linear(2, 1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     nc.save({"model": layer.state_dict(), "epoch": 3}, f"{folder}/checkpoint")
    ...     state = nc.load(f"{folder}/checkpoint")
    >>> state["epoch"]
    3
    >>> layer.load_state_dict(state["model"])
    IncompatibleKeys(missing_keys=[], unexpected_keys=[])
    """
    arrays: list[np.ndarray] = []
    try:
        tree = _encode(state, arrays, "state")
    except RecursionError:
        raise CheckpointError("state is nested too deeply, or contains itself") from None
    index = json.dumps({"format": _FORMAT, "version": _VERSION, "tree": tree}, allow_nan=False)
    with _replacing(os.path.realpath(path)) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_INDEX, index)
        for position, array in enumerate(arrays):
            with archive.open(_array_name(position), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def load(path: str | os.PathLike[str]) -> Any:
    """Read a state written by `save`.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    nested dict, list, tuple
        As it was saved: arrays with the same bits, dtype and shape, tensors with `requires_grad` but without a
        gradient.

    Raises
    ------
    CheckpointError
        The file is truncated, corrupt, not one of ours, or of a newer version.
    OSError
        The file could not be read.

    Examples
    --------
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "state.nc")
    ...     save({"step": 3}, path)
    ...     load(path)
    {'step': 3}
    """
    with open(path, "rb") as file:
        try:
            return _read(file)
        except CheckpointError:
            raise
        except _DAMAGE as error:
            raise CheckpointError(
                f"{os.fspath(path)!r} is not a complete numbacnn checkpoint (truncated, corrupt, or another kind of "
                f"file): {error or type(error).__name__}"
            ) from error


def _read(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        index = json.loads(archive.read(_INDEX))
        if index["format"] != _FORMAT:
            raise ValueError(f"format is {index['format']!r}")
        if index["version"] > _VERSION:
            raise CheckpointError(
                f"the file has version {index['version']}, this numbacnn reads up to {_VERSION}; upgrade numbacnn"
            )

        def array(position: int) -> np.ndarray:
            # The whole entry is read first, so that its checksum is known to be right.
            entry = io.BytesIO(archive.read(_array_name(position)))
            return np.lib.format.read_array(entry, allow_pickle=False)

        return _decode(index["tree"], array)


def _array_name(position: int) -> str:
    return f"arrays/{position}.npy"


def _encode(value: Any, arrays: list[np.ndarray], where: str) -> Any:
    """The index entry of a value; arrays are put aside. `where` says in messages how to reach it."""
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, Tensor):
        tensor = {"requires_grad": value.requires_grad and value.is_leaf, "parameter": isinstance(value, Parameter)}
        return {"tensor": _put_aside(value.data, arrays, where), **tensor}
    if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray):
        return {"array": _put_aside(value, arrays, where)}
    if isinstance(value, np.generic):
        return {"scalar": _put_aside(np.asarray(value), arrays, where)}
    if isinstance(value, dict):
        items = value.items()
        return {"dict": [[_key(key, where), _encode(item, arrays, f"{where}[{key!r}]")] for key, item in items]}
    if isinstance(value, (list, tuple)):
        items_ = [_encode(item, arrays, f"{where}[{position}]") for position, item in enumerate(value)]
        return items_ if isinstance(value, list) else {"tuple": items_}
    raise CheckpointError(
        f"{where} is a {type(value).__name__}, which cannot be saved; a state holds dicts, lists and tuples of arrays, "
        "tensors, numbers, strings, bools and None"
    )


def _key(key: Any, where: str) -> Any:
    arrays: list[np.ndarray] = []
    encoded = _encode(key, arrays, f"a key of {where}")
    if arrays or isinstance(key, (dict, list)):
        raise CheckpointError(
            f"{where} has the key {key!r}; keys must be strings, numbers, bools, None or tuples of them"
        )
    return encoded


def _put_aside(array: np.ndarray, arrays: list[np.ndarray], where: str) -> int:
    if array.dtype.hasobject:
        raise CheckpointError(f"{where} is an array of dtype {array.dtype}, which cannot be saved without pickle")
    arrays.append(np.asarray(array))
    return len(arrays) - 1


def _decode(entry: Any, array: Any) -> Any:
    if isinstance(entry, list):
        return [_decode(item, array) for item in entry]
    if not isinstance(entry, dict):
        return entry
    content: Any
    kind, content = next(iter(entry.items()), ("", None))
    if kind == "dict":
        return {_decode(key, array): _decode(item, array) for key, item in content}
    if kind == "tuple":
        return tuple(_decode(item, array) for item in content)
    if kind == "float":
        return float(content)
    if kind == "array":
        return array(content)
    if kind == "scalar":
        return array(content)[()]
    if kind == "tensor":
        return (Parameter if entry["parameter"] else Tensor)(array(content), requires_grad=entry["requires_grad"])
    raise ValueError(f"unknown entry {kind!r} in the index")


@contextlib.contextmanager
def _replacing(path: str) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` when it is complete and on the disk."""
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{secrets.token_hex(4)}.tmp")
    file = open(temporary, "xb")  # noqa: SIM115 - closed below, before the renaming
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise
    _flush_folder(folder)


def _flush_folder(folder: str) -> None:
    """Put the renaming itself on the disk, where the system can do so."""
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder or ".", os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
