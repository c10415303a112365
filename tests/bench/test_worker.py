"""Libraries in processes of their own: what is wrong is not timed, what dies or hangs is survived."""

import numpy as np
import pytest

from bench import cases
from bench.load import ForeignLoad
from bench.measure import Effort, measure
from bench.worker import Session, Worker, WorkerFailed
from tests.bench.small import SMALL

STAND_INS = '''
import os, time
from bench.libraries import numpy

class Broken(numpy.NumPy):
    """Right but for one tap in the last row of the last sample."""
    def prepare(self, case, direction, arrays):
        (call,) = super().prepare(case, direction, arrays).values()
        def broken():
            result = call()
            result[-1, :, -1] *= 0.9
            return result
        return {"contiguous": broken}

class Crashing(numpy.NumPy):
    def prepare(self, case, direction, arrays):
        return {"contiguous": lambda: os._exit(7)}

class Hanging(numpy.NumPy):
    def prepare(self, case, direction, arrays):
        return {"contiguous": lambda: time.sleep(60)}
'''


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Makes `broken`, `crashing` or `hanging` a library; worker processes inherit the path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def library(name):
        (tmp_path / "stand").mkdir(exist_ok=True)
        code = f"{STAND_INS}\ndef connect(threads): return {name.capitalize()}()\n"
        (tmp_path / "stand" / f"{name}.py").write_text(code)
        return f"stand.{name}"

    return library


def test_a_wrong_library_is_not_timed(stand_in):
    case = cases.parse(SMALL)[0]
    with Worker("numpy", 1) as honest, Worker(stand_in("broken"), 1) as broken:
        entry = measure(case, "forward", "float32", [honest, broken], Effort(rounds=2, budget=0.001))
        assert broken.ask("time_block", "contiguous", 0.001)[1] >= 1  # it could have been timed
    right, wrong = entry["libraries"]["numpy"], entry["libraries"]["stand.broken"]
    assert wrong["wrong"]
    assert "of the largest magnitude" in wrong["refused"]
    assert "seconds" not in wrong
    assert len(right["blocks"]["contiguous"]) == 2
    assert right["seconds"] > 0
    assert entry["ratios"] == {}


def test_unsupported_is_no_failure():
    case = cases.parse(SMALL)[0]
    with Worker("numpy", 1) as worker:
        entry = measure(case, "backward_data", "float32", [worker], Effort(rounds=2, budget=0.001))
    assert entry["libraries"]["numpy"] == {"refused": "no backward_data of ConvCase", "wrong": False}


def test_a_crash_is_reported_and_survived(stand_in):
    case = cases.parse(SMALL)[0]
    with Worker(stand_in("crashing"), 1) as worker:
        worker.ask("prepare", case, "forward", "float32")
        with pytest.raises(WorkerFailed, match=r"its process died during result \(exit code 7\)"):
            worker.ask("result", "contiguous")
        assert worker.ask("version") == np.__version__
        with pytest.raises(WorkerFailed, match="KeyError"):
            worker.ask("result", "contiguous")


def test_a_hanging_library_is_stopped(stand_in):
    case = cases.parse(SMALL)[0]
    with Worker(stand_in("hanging"), 1, timeout=20) as worker:
        worker.ask("prepare", case, "forward", "float32")
        worker._timeout = 0.2
        with pytest.raises(WorkerFailed, match="no answer to result within 0.2 s"):
            worker.ask("result", "contiguous")


def test_a_block_times_calls_after_an_untimed_one():
    session = Session("numpy", 1)
    calls = []
    session.calls = {"contiguous": lambda: calls.append(None)}
    seconds, count = session.time_block("contiguous", 0.001)
    assert seconds >= 0
    assert count == len(calls) - 1


def test_foreign_load_is_a_share():
    load = ForeignLoad([])
    sum(i * i for i in range(300_000))
    share = load.share()
    assert share is None or 0 <= share <= 1
