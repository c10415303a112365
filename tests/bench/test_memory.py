"""Memory that calls and training steps take."""

import sys

import numpy as np
import pytest

from bench import memory, report
from tests.bench.small import make_entry


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the high-water mark is Linux's")
def test_extra_memory_is_seen():
    def call():
        return np.ones(40_000_000, np.uint8)[::2].copy()

    found = memory.extra_bytes(call, lambda result: result.nbytes, lambda: None)
    if found is None:
        pytest.skip("this system does not let the high-water mark be reset")
    assert 36e6 < found < 48e6


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the high-water mark is Linux's")
def test_memory_of_training_steps():
    """Fresh pages are seen as faults and in the peak; of the last step's eight requests the pool met six."""
    steps = []

    def step():
        steps.append(np.ones(20_000_000 * (1 + len(steps)), np.uint8).sum())

    counts = iter([(10, 5), (16, 7)])
    figures = memory.training(step, lambda: None, lambda: next(counts))
    assert len(steps) == memory.STEPS_TO_SETTLE + 1
    assert figures["pool_hits"] == 0.75
    assert figures["faults"] > 0
    assert figures.get("peak_bytes", 60e6) >= 60e6
    assert "pool_hits" not in memory.training(step, lambda: None, lambda: None)


def test_memory_of_training_is_reported(results):
    entry = make_entry("step", 1e-3, 2e-3) | {"group": "train_deep", "unit": "samples/s"}
    entry["libraries"]["numbacnn"] |= {"peak_bytes": 300_000_000, "faults": 12, "pool_hits": 0.987}
    entry["libraries"]["torch"] |= {"peak_bytes": 400_000_000, "faults": 3456}
    results["entries"] = [entry]
    text = report.markdown(results)
    assert "| extra MB | peak MB | page faults | from pool |" in text
    assert "| 300 | 12 | 98.7% |" in text
    assert "| 400 | 3456 |  |" in text
