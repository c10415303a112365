"""How much memory a call takes beyond its operands and its result, and what a training step takes from the system.

Linux keeps the high-water mark of each process's resident set and lets it be reset. All memory that the library and the
C allocator hold in reserve is given back first, so that the call has to take every page anew.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from typing import Any

# After so many training steps everything that will be used again has been there.
STEPS_TO_SETTLE = 2

METHOD = (
    "growth of the resident set's high-water mark (Linux VmHWM) over one call in a worker that is not timed, after the "
    "library's pool and the C heap were trimmed, less the result itself; training: the high-water mark itself over "
    f"{STEPS_TO_SETTLE + 1} steps, the library included, and the pages that the last step had to ask the system for"
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


def training(
    step: Callable[[], Any], release: Callable[[], None], pool_counts: Callable[[], tuple[int, int] | None]
) -> dict[str, float]:
    """What training steps take: `peak_bytes` resident, `faults` of the last step, its share of `pool_hits`.

    `pool_counts` says how many requests for memory were met so far from what was given back, and how many were not.
    Figures that cannot be had are absent.
    """
    gc.collect()
    release()
    _trim_heap()
    known = _reset_high_water_mark()
    for _ in range(STEPS_TO_SETTLE):
        step()
    counts, faults = pool_counts(), _page_faults()
    step()
    figures: dict[str, float] = {}
    if faults is not None:
        figures["faults"] = (_page_faults() or 0) - faults
    if known:
        figures["peak_bytes"] = _status("VmHWM")
    if counts is not None and (after := pool_counts()) is not None:
        hits, misses = after[0] - counts[0], after[1] - counts[1]
        figures["pool_hits"] = hits / max(hits + misses, 1)
    return figures


def _page_faults() -> int | None:
    """Pages that the process had to ask for so far, without reading from a disk; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


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
