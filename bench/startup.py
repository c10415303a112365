"""What a fresh process costs: importing a library, and its first convolution with a warm kernel cache."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from .measure import OURS, ratios

_ROOT = str(Path(__file__).parents[1])

# Each prints two clock readings: before and after what is measured. The clock is the same in all processes.
_IMPORT = """
import time; start = time.monotonic(); import {module}; print(start, time.monotonic())
"""
_FIRST = {
    OURS: """
import time, numpy as np, numbacnn as nc
x, w = np.ones((1, 16, 32, 32), "float32"), np.ones((16, 16, 3, 3), "float32")
nc.ops.conv_forward(x, w, padding=1); print({started}, time.monotonic())
""",
    "torch": """
import time, torch
x, w = torch.ones(1, 16, 32, 32), torch.ones(16, 16, 3, 3)
torch.nn.functional.conv2d(x, w, padding=1); print({started}, time.monotonic())
""",
}
_DESCRIPTIONS = {
    "import": "`import` alone, inside a running interpreter",
    "first_convolution": "from the start of the process to the end of its first convolution",
}


def measure_startup(case: str, libraries: list[str], rounds: int) -> dict[str, Any]:
    """An entry like `measure`'s for `case`: "import" or "first_convolution"; libraries take turns."""
    entry: dict[str, Any] = {
        "case": case,
        "description": _DESCRIPTIONS[case],
        "direction": "start",
        "dtype": "float32",
        "unit": "ms",
        "libraries": {},
    }
    blocks: dict[str, list[float]] = {name: [] for name in libraries if name in _FIRST}
    for turn in range(rounds + 1):
        for name in list(blocks):
            try:
                seconds = _run(case, name)
            except RuntimeError as error:
                entry["libraries"][name] = {"refused": str(error), "wrong": name == OURS}
                del blocks[name]
                continue
            if turn:  # the first run fills the caches
                blocks[name].append(seconds)
    for name, seconds_of_blocks in blocks.items():
        low, _, high = quantiles(seconds_of_blocks, n=4, method="inclusive")
        entry["libraries"][name] = {
            "variant": "fresh process",
            "seconds": median(seconds_of_blocks),
            "rate": median(seconds_of_blocks) * 1e3,
            "spread": (low, high),
            "blocks": {"fresh process": seconds_of_blocks},
        }
    entry["ratios"] = ratios(entry["libraries"], OURS)
    return entry


def _run(case: str, library: str) -> float:
    """Seconds of one fresh process; `RuntimeError` with the last line of its complaint if it fails."""
    code = _IMPORT.format(module=library) if case == "import" else _FIRST[library].format(started=time.monotonic())
    paths = filter(None, [_ROOT, os.environ.get("PYTHONPATH")])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    start, end = map(float, done.stdout.split())
    return end - start


CASES = tuple(_DESCRIPTIONS)
