"""Batch normalisation, forward and backward in training, and in evaluation: `python -m pytest bench/bench_norm.py`."""

import pytest

from bench.suite import parameters, run


@pytest.mark.parametrize(("case", "direction", "dtype"), parameters("norm"))
def test_norm(benchmark, case, direction, dtype):
    run(benchmark, case, direction, dtype)
