"""Times of convolution algorithms, remembered in the cache directory: one small JSON file per problem.

A file's name is the digest of all that its times hold for: the library's version, the processor and the problem. So
there is no index that processes could race for, and nothing to invalidate.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import warnings
from typing import TYPE_CHECKING, Any

from ...errors import MeasurementWarning
from ...kernels._cache import directory, replace_file
from ...kernels._target import target

if TYPE_CHECKING:
    from pathlib import Path

SUFFIX = ".times.json"


def load(problem: str) -> dict[str, float] | None:
    """Seconds by algorithm, or None if nothing is remembered.

    Warns
    -----
    MeasurementWarning
        There is a file, but it is torn or somebody else's.
    """
    path = _path(problem)
    if path is None:
        return None
    try:
        content = path.read_bytes()
    except OSError:
        return None
    try:
        record = json.loads(content)
        if not isinstance(record, dict) or {**_header(problem), "seconds": record.get("seconds")} != record:
            raise ValueError("it does not belong to this problem")
        return _checked(record["seconds"])
    except (ValueError, RecursionError) as error:  # what json and unicode raise are ValueErrors, too
        warnings.warn(
            f"{path} does not hold times of convolution algorithms ({error}); they are measured again",
            MeasurementWarning,
            stacklevel=2,
        )
    return None


def store(problem: str, seconds: dict[str, float]) -> None:
    """Remember the times, unless the directory cannot be written."""
    path = _path(problem)
    if path is not None:
        replace_file(path, json.dumps({**_header(problem), "seconds": seconds}, indent=1).encode())


def clear() -> int:
    """Forget what is remembered on disk; return how many problems that were."""
    removed = 0
    for path in _files():
        with contextlib.suppress(OSError):
            path.unlink()
            removed += 1
    return removed


def count() -> int:
    """Number of problems remembered on disk, for whatever processor and version."""
    return len(_files())


def _checked(seconds: Any) -> dict[str, float]:
    if not isinstance(seconds, dict) or not seconds:
        raise ValueError("there are no times")
    for name, value in seconds.items():
        if not isinstance(value, float) or not 0 < value < math.inf:
            raise ValueError(f"{value!r} is not the time of {name!r}")
    return seconds


def _header(problem: str) -> dict[str, str]:
    from ... import __version__

    machine = target()
    return {"numbacnn": __version__, "processor": machine.cpu, "features": machine.features, "problem": problem}


def _path(problem: str) -> Path | None:
    place = directory()
    return place and place / (hashlib.sha256(repr(_header(problem)).encode()).hexdigest()[:32] + SUFFIX)


def _files() -> list[Path]:
    place = directory()
    with contextlib.suppress(OSError):
        return [path for path in place.iterdir() if path.name.endswith(SUFFIX)] if place else []
    return []
