"""Activation functions, arithmetic of arrays and joining them: `python -m pytest bench/bench_elementwise.py`."""

import pytest

from bench.suite import parameters, run


@pytest.mark.parametrize(("case", "direction", "dtype"), parameters("activation", "arithmetic"))
def test_elementwise(benchmark, case, direction, dtype):
    run(benchmark, case, direction, dtype)
