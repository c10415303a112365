"""The costs that choose Winograd are fitted to measurements."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from bench import choice
from numbacnn.ops.conv import winograd, winograd_choice


def test_choice_is_fitted_to_what_was_measured(tmp_path, monkeypatch):
    """Times that follow from costs give these costs back; nothing is lost by choosing with them."""
    pytest.importorskip("scipy")

    def measure(direction, g, dtype, names, turns):
        passes = winograd.passes(direction, g, dtype.itemsize)
        other, winograd_time = winograd_choice.times(direction, g, passes, dtype.itemsize)
        double = 2 if dtype == np.float64 else 1
        return {name: double * 1e-6 * (winograd_time if name == "winograd" else other) for name in names}

    monkeypatch.setattr(choice.autotune, "measure", measure)
    monkeypatch.setattr(choice, "time", SimpleNamespace(perf_counter=itertools.count().__next__))  # a problem a second
    for seed in range(2):
        choice.measure(tmp_path / "samples", 100, seed)
    samples = choice.load(tmp_path / "samples")
    assert len(samples) > 150
    model = choice.fit(samples)
    for table, name in ((winograd_choice.OTHER, "data"), (winograd_choice.WINOGRAD, ("own weights", 2))):
        np.testing.assert_allclose({**model.OTHER, **model.WINOGRAD}[name], table[name], rtol=0.2, atol=5)
    weights = [s for s in samples if s.direction == "backward_weight"]  # the others are judged by two batches
    assert max(choice.losses(weights)) == 1
