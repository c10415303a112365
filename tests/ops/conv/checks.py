"""Convolutions against the oracle, in every direction that an algorithm takes: exactly, or within a tolerance."""

from __future__ import annotations

import contextlib
import functools
from typing import NamedTuple

import numpy as np

from numbacnn.kernels import _launch
from numbacnn.kernels.tile import tile_lanes
from numbacnn.ops import conv_backward_data, conv_backward_weight, conv_forward
from numbacnn.ops.conv import plan
from numbacnn.ops.geometry import collapse, conv_geometry
from numbacnn.ops.layout import is_channels_last
from tests import naive
from tests.cases import conv_arrays, in_order, integers

# Channels of a panel of float32: sizes that must fill one, or be a ragged number of them, grow with the vectors.
PANEL = tile_lanes(4)


class Operands(NamedTuple):
    """Input, weight and bias; gradient of the output, and a bias for that of the input."""

    x: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    grad: np.ndarray
    in_bias: np.ndarray


def users_geometry(case):
    return conv_geometry(case.input_shape, case.weight_shape, **case.options, warn=False)


def geometry_of(case):
    """What runs."""
    return collapse(users_geometry(case))


def directions(case, algorithm):
    """The directions of a case that an algorithm takes."""
    g = geometry_of(case)
    return [d for d in plan.DIRECTIONS if algorithm == "auto" or plan.module(algorithm).accepts(d, g) is None]


def results(case, operands, taken, algorithm):
    """What directions of a case give, biases included, in the order of `taken`."""
    x, weight, bias, grad, in_bias = operands
    options = {**case.options, "algorithm": algorithm}
    calls = {
        "forward": lambda: conv_forward(x, weight, bias, **options),
        "backward_data": lambda: conv_backward_data(grad, weight, x.shape, bias=in_bias, **options),
        "backward_weight": lambda: conv_backward_weight(grad, x, weight.shape, **options),
    }
    return [calls[direction]() for direction in taken]


def along_channels(bias, case):
    return bias.reshape(-1, *[1] * len(case.size))


# ------------------------------------------------------------------------------------------------------------- exactly


@functools.lru_cache(maxsize=16)
def integer_operands(case):
    """Small integers, which sums of products in any order keep; input and gradient in the case's memory order."""
    x, weight, bias = conv_arrays(case)
    grad = in_order(integers(users_geometry(case).output_shape, case.dtype, 3), case.order)
    return Operands(x, weight, bias, grad, integers((case.in_channels,), case.dtype, 4))


@functools.lru_cache(maxsize=16)
def exact_result(case, direction):
    """What the oracle makes of `integer_operands`, without biases."""
    x, weight, _, grad, _ = integer_operands(case)
    if direction == "forward":
        return naive.conv_forward(x, weight, **case.options)
    if direction == "backward_data":
        return naive.conv_backward_data(grad, weight, case.input_shape, **case.options)
    return naive.conv_backward_weight(grad, x, case.weight_shape, **case.options) if case.batch else 0 * weight


def assert_image(actual, expected, dtype):
    """Values, and what every image-like result promises."""
    np.testing.assert_array_equal(actual, expected)
    assert actual.dtype == dtype
    assert is_channels_last(actual)


def check(case, algorithm="auto", wanted=None):
    """With and without bias, all directions that the algorithm takes, or those wanted, equal the oracle's; which?"""
    x, weight, bias, grad, in_bias = integer_operands(case)
    options = {**case.options, "algorithm": algorithm, "precision": "exact"}
    taken = wanted or directions(case, algorithm)
    serial = functools.partial(_launch.driver, "serial")  # whose scratch is guarded
    if "forward" in taken:
        y = exact_result(case, "forward")
        with serial():
            assert_image(conv_forward(x, weight, **options), y, case.dtype)
        assert_image(conv_forward(x, weight, bias, **options), y + along_channels(bias, case), case.dtype)
    if "backward_data" in taken:
        grad_x = exact_result(case, "backward_data")
        with serial():
            assert_image(conv_backward_data(grad, weight, x.shape, **options), grad_x, case.dtype)
        result = conv_backward_data(grad, weight, x.shape, bias=in_bias, **options)
        assert_image(result, grad_x + along_channels(in_bias, case), case.dtype)
    if "backward_weight" in taken:
        for driver in (serial, contextlib.nullcontext):
            with driver():
                result = conv_backward_weight(grad, x, weight.shape, **options)
            np.testing.assert_array_equal(result, exact_result(case, "backward_weight"))
            assert result.dtype == case.dtype
    return taken


# -------------------------------------------------------------------------------------------------- within a tolerance


@functools.lru_cache(maxsize=16)
def normal_operands(case):
    """Normally distributed values."""
    generator = np.random.default_rng(case.in_channels * 100 + case.size[-1])
    output_shape = users_geometry(case).output_shape
    shapes = case.input_shape, case.weight_shape, (case.out_channels,), output_shape, (case.in_channels,)
    return Operands(*(generator.standard_normal(shape).astype(case.dtype) for shape in shapes))


def oracle(case, operands, taken):
    """What `results` should be."""
    x, weight, bias, grad, in_bias = operands
    calls = {
        "forward": lambda: naive.conv_forward(x, weight, bias, **case.options),
        "backward_data": lambda: (
            naive.conv_backward_data(grad, weight, x.shape, **case.options) + along_channels(in_bias, case)
        ),
        "backward_weight": lambda: naive.conv_backward_weight(grad, x, weight.shape, **case.options),
    }
    return [calls[direction]() for direction in taken]


def check_close(case, algorithm, tolerance, cancelling=False):
    """Errors of all directions taken, as shares of the largest result; returns which.

    Shares of sums of magnitudes, if results may be `cancelling`: all of them small, or sums of padding.
    """
    operands, taken = normal_operands(case), directions(case, algorithm)
    scales = wants = oracle(case, operands, taken)
    if cancelling:
        scales = oracle(case, Operands(*map(np.abs, operands)), taken)
    with _launch.driver("serial"):
        values = results(case, operands, taken, algorithm)
    for got, want, scale in zip(values, wants, scales, strict=True):
        assert got.dtype == case.dtype
        assert got.shape == want.shape
        error = np.abs(got - want).max(initial=0)
        assert error <= tolerance * (np.abs(scale).max(initial=0) + cancelling)
    return taken
