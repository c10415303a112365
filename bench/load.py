"""How busy somebody else kept the processors while we measured.

Libraries that split work evenly over their threads suffer far more from a stolen core than ones that hand it out piece
by piece, so a comparison on a busy machine is not merely noisy but wrong. It is measured, reported and can be repeated.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

# Share of all processors' time from which a comparison is not to be trusted.
BUSY = 0.05


class ForeignLoad:
    """The share of the processors' time since creation that went to processes other than `pids` and this one."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = [os.getpid(), *pids]
        self._start = self._now()

    def share(self) -> float | None:
        """Between 0 and 1; None where the system has no /proc/stat."""
        now = self._now()
        if now is None or self._start is None:
            return None
        busy, own, wall = (end - start for end, start in zip(now, self._start, strict=True))
        capacity = wall * (os.cpu_count() or 1)
        return min(1.0, max(0.0, (busy - own) / capacity)) if capacity else None

    def _now(self) -> tuple[float, float, float] | None:
        """Seconds so far: of all processors' work, with what a hypervisor took from them; of ours; on the wall."""
        try:
            total = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
            own = sum(self._ticks(pid) for pid in self._pids)
        except OSError:
            return None
        user, nice, system, _idle, _iowait, interrupts, soft_interrupts, stolen = map(int, total)
        tick = 1 / os.sysconf("SC_CLK_TCK")
        busy = user + nice + system + interrupts + soft_interrupts + stolen
        return busy * tick, own * tick, time.monotonic()

    @staticmethod
    def _ticks(pid: int) -> int:
        """User and system time of a process and all its threads, in clock ticks."""
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
