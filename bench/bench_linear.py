"""Fully connected layers in their three directions: `python -m pytest bench/bench_linear.py`."""

import pytest

from bench.suite import parameters, run


@pytest.mark.parametrize(("case", "direction", "dtype"), parameters("linear", "matmul"))
def test_linear(benchmark, case, direction, dtype):
    run(benchmark, case, direction, dtype)
