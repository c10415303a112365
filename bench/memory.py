"""How much memory a call takes beyond its operands and its result: the growth of the resident set.

Linux keeps the high-water mark of each process's resident set and lets it be reset. All memory that the library and the
C allocator hold in reserve is given back first, so that the call has to take every page anew.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from typing import Any

METHOD = (
    "growth of the resident set's high-water mark (Linux VmHWM) over one call in a worker that is not timed, after the "
    "library's pool and the C heap were trimmed, less the result itself"
)


def extra_bytes(call: Callable[[], Any], result_bytes: Callable[[Any], int], release: Callable[[], None]) -> int | None:
    """Peak growth in bytes during `call`, without its result; None where the system cannot tell."""
    gc.collect()
    release()
    _trim_heap()
    if not _reset_high_water_mark():
        return None
    before = _status("VmRSS")
    result = call()
    growth = _status("VmHWM") - before
    return max(0, growth - result_bytes(result))


def _reset_high_water_mark() -> bool:
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        return False
    return True


def _status(field: str) -> int:
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def _trim_heap() -> None:
    """glibc keeps freed memory for the process; other C libraries have no such call, and need none."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
