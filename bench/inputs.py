"""The arrays a case is measured on. They depend on the case alone, so every process makes the same ones."""

from __future__ import annotations

import math
import zlib
from functools import singledispatch

import numpy as np

from . import cases
from .nets import NETS

Arrays = dict[str, np.ndarray]


def make(case: cases.Case, dtype: str) -> Arrays:
    """C-contiguous arrays for every direction of `case`, by name."""
    return _make(case, _Normal(case.name, dtype))


class _Normal:
    """Standard normal arrays of one dtype from a seed that is the case's name."""

    def __init__(self, name: str, dtype: str) -> None:
        self.generator = np.random.default_rng(zlib.crc32(name.encode()))
        self.dtype = np.dtype(dtype)

    def __call__(self, shape: tuple[int, ...], scale: float = 1.0) -> np.ndarray:
        values = self.generator.standard_normal(shape, dtype=self.dtype)
        values *= self.dtype.type(scale)
        return values


@singledispatch
def _make(case: cases.Case, normal: _Normal) -> Arrays:
    raise TypeError(f"no inputs are defined for {type(case).__name__}")


@_make.register
def _(case: cases.ConvCase, normal: _Normal) -> Arrays:
    return {
        "x": normal(case.input_shape),
        "weight": normal(case.weight_shape, 1 / math.sqrt(math.prod(case.weight_shape[1:]))),
        "grad_output": normal(case.output_shape),
    }


@_make.register
def _(case: cases.PoolCase, normal: _Normal) -> Arrays:
    return {"x": normal(case.input_shape), "grad_output": normal(case.output_shape)}


@_make.register
def _(case: cases.NormCase, normal: _Normal) -> Arrays:
    x = normal(case.input_shape, 2.0)
    x += normal.dtype.type(0.5)
    return {
        "x": x,
        "grad_output": normal(case.input_shape),
        "weight": normal((case.channels,)),
        "bias": normal((case.channels,)),
        "running_mean": normal((case.channels,)),
        "running_var": np.square(normal((case.channels,))) + normal.dtype.type(0.5),
    }


@_make.register
def _(case: cases.LinearCase, normal: _Normal) -> Arrays:
    return {
        "x": normal((case.batch, case.in_features)),
        "weight": normal((case.out_features, case.in_features), 1 / math.sqrt(case.in_features)),
        "grad_output": normal((case.batch, case.out_features)),
    }


@_make.register
def _(case: cases.ActivationCase, normal: _Normal) -> Arrays:
    return {"x": normal(case.input_shape, 2.0), "grad_output": normal(case.input_shape)}


@_make.register
def _(case: cases.ArithmeticCase, normal: _Normal) -> Arrays:
    return {"x": normal(case.input_shape), "y": normal(case.input_shape)}


@_make.register
def _(case: cases.MatmulCase, normal: _Normal) -> Arrays:
    return {"a": normal((case.rows, case.depth)), "b": normal((case.depth, case.columns))}


@_make.register
def _(case: cases.TrainCase, normal: _Normal) -> Arrays:
    net = NETS[case.net]
    labels = normal.generator.integers(0, net.classes, case.batch)
    return {"x": normal((case.batch, *net.input_shape)), "labels": labels}
