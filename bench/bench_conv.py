"""Convolutions in their three directions: `python -m pytest bench/bench_conv.py`, with `-k` to select cases."""

import pytest

from bench.suite import parameters, run


@pytest.mark.parametrize(
    ("case", "direction", "dtype"), parameters("conv", "depthwise_grouped", "long_kernel", "layers")
)
def test_conv(benchmark, case, direction, dtype):
    run(benchmark, case, direction, dtype)
