"""What the pytest-benchmark files share: cases as parameters, and one benchmark of one case."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from . import inputs, reference, validate
from .cases import Case, TrainCase, load, rate
from .libraries import Library, Unsupported, connect, result_names


def parameters(*groups: str, dtypes: tuple[str, ...] = ("float32", "float64")) -> list[Any]:
    """Every case of the tables in every direction and dtype, named so that `-k` can select."""
    return [
        pytest.param(case, direction, dtype, id=f"{group}-{case.name}-{direction}-{dtype}")
        for group in groups
        for case in load(group)
        for direction in case.directions
        for dtype in dtypes
    ]


def run(benchmark: Any, case: Case, direction: str, dtype: str) -> None:
    """Validate, time, and say what the time means."""
    library = _library()
    arrays = inputs.make(case, dtype)
    try:
        ((variant, call),) = library.prepare(case, direction, arrays).items()
    except Unsupported as reason:
        pytest.skip(str(reason))
    if isinstance(case, TrainCase):
        losses = [float(library.to_numpy(call())) for _ in range(12)]
        assert losses[-1] < losses[0], f"training does not reduce the loss: {losses}"
    else:
        values = call()
        values = values if isinstance(values, tuple) else (values,)
        result = dict(zip(result_names(len(values)), map(library.to_numpy, values), strict=True))
        benchmark.extra_info["error"] = validate.check_sample(result, reference.sample(case, direction, arrays), dtype)
    benchmark.group = f"{type(case).__name__} {direction} {dtype}"
    benchmark(call)
    if benchmark.stats is None:  # --benchmark-disable: only that everything runs and is right
        return
    seconds = benchmark.stats.stats.median
    work_rate = rate(case, direction, np.dtype(dtype).itemsize, seconds)
    benchmark.extra_info |= {"shape": str(case), "memory": variant, case.unit: work_rate}
    if case.unit == "GFLOP/s":
        benchmark.extra_info["share of peak"] = work_rate / _peak(dtype)


@functools.cache
def _library() -> Library:
    from numbacnn import get_num_threads

    return connect("numbacnn", get_num_threads())


@functools.cache
def _peak(dtype: str) -> float:
    from .peak import peak_gflops

    return peak_gflops(dtype, seconds=0.5)
