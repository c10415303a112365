"""The machine's ceilings, as they are measured."""

from types import SimpleNamespace

from bench import peak


def test_compiling_the_copy_does_not_count(monkeypatch):
    clock, durations = [0.0], iter([10.0])

    def copy(*_, **__):
        clock[0] += next(durations, 0.25)

    monkeypatch.setattr(peak, "copy", copy)
    monkeypatch.setattr(peak, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    assert peak.bandwidth(1) == 2 * peak.BANDWIDTH_BYTES / 0.25 / 1e9
