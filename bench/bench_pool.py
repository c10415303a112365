"""Pooling, forward and backward: `python -m pytest bench/bench_pool.py`."""

import pytest

from bench.suite import parameters, run

# Real nets have layers whose last row or column no window reaches.
pytestmark = pytest.mark.filterwarnings("ignore::numbacnn.errors.PaddingWarning")


@pytest.mark.parametrize(("case", "direction", "dtype"), parameters("pool"))
def test_pool(benchmark, case, direction, dtype):
    run(benchmark, case, direction, dtype)
