"""Whole training steps: `python -m pytest bench/bench_train.py`."""

import pytest

from bench.suite import parameters, run


@pytest.mark.parametrize(("case", "direction", "dtype"), parameters("train", dtypes=("float32",)))
def test_training_step(benchmark, case, direction, dtype):
    run(benchmark, case, direction, dtype)
