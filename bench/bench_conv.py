"""Convolutions in their three directions: `python -m pytest bench/bench_conv.py`, with `-k` to select cases."""

import pytest

from bench.suite import parameters, run

# Real nets have layers whose last row or column no window reaches.
pytestmark = pytest.mark.filterwarnings("ignore::numbacnn.errors.PaddingWarning")


@pytest.mark.parametrize(
    ("case", "direction", "dtype"), parameters("conv", "depthwise_grouped", "long_kernel", "layers")
)
def test_conv(benchmark, case, direction, dtype):
    run(benchmark, case, direction, dtype)
