"""What only moves memory, beside the machine's bandwidth: operations on arrays that no cache holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .measure import OURS

# Less may lie in the caches when it is read, and be moved faster than memory allows.
LARGE_BYTES = 48e6
GOOD = 0.7  # of the bandwidth

HEAD = ["case", "shape", "direction", "dtype", "MB", "ms", "GB/s", "of bandwidth", "against", "ratio"]


def rows(reports: Iterable[dict[str, Any]]) -> tuple[list[list[str]], str]:
    """A row for each large case of the reports, the smallest share of the bandwidth first; and what they say."""
    found = []
    for results in reports:
        for entry in results["entries"]:
            timing = entry["libraries"].get(OURS, {})
            if entry["unit"] != "GB/s" or "share_of_peak" not in timing:
                continue
            moved = timing["rate"] * timing["seconds"] * 1e9
            if moved >= LARGE_BYTES:
                found.append((timing["share_of_peak"], moved, entry, timing))
    found.sort(key=lambda row: row[0])
    good = sum(share >= GOOD for share, *_ in found)
    line = (
        "Counted is what has to pass between memory and the processor if no cache holds anything: what goes in, again "
        "where sums over it come first (batch normalisation), and what comes out. Results of 16 MB and more (64 MB "
        "beside vectors of 64 bytes) are written past the caches, so that what they overwrite is not read. The "
        "bandwidth is that of copying so in the "
        f"same run. Of {len(found)} cases that move {LARGE_BYTES / 1e6:.0f} MB and more, {good} reach {GOOD:.0%} of it."
    )
    return [_row(*row) for row in found], line


def _row(share: float, moved: float, entry: dict[str, Any], timing: dict[str, Any]) -> list[str]:
    names = [entry["case"], entry["description"], entry["direction"], entry["dtype"]]
    figures = [f"{moved / 1e6:.0f}", f"{timing['seconds'] * 1e3:.3g}", f"{timing['rate']:.3g}", f"{share:.0%}"]
    if not entry["ratios"]:
        return [*names, *figures, "", ""]
    nearest = min(entry["ratios"], key=lambda name: entry["ratios"][name]["ratio"])
    return [*names, *figures, nearest, f"**{entry['ratios'][nearest]['ratio']:.2f}**"]
