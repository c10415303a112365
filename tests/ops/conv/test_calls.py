"""What is kept of a first call serves the next ones: other elements, in other places, aligned or not."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn.kernels import _program
from numbacnn.ops import conv_backward_data, conv_backward_weight, conv_forward
from numbacnn.ops.conv import calls, plan
from tests import naive
from tests.cases import ConvCase, in_order, integers
from tests.ops.conv.checks import directions, users_geometry

CASES = [
    ConvCase(2, 16, 16, (6, 7), (3, 3), padding=1, name="3x3"),
    ConvCase(2, 16, 16, (6, 7), (3, 3), 2, 1, name="strided"),
    ConvCase(2, 16, 16, (6, 7), (3, 3), padding=1, groups=16, name="depthwise"),
    ConvCase(2, 12, 8, (6, 7), (1, 1), name="pointwise"),
    ConvCase(2, 12, 8, (6, 7), (1, 1), 2, name="strided pointwise"),
    ConvCase(1, 12, 9, (40,), (5,), padding=2, groups=3, name="groups"),
    ConvCase(1, 3, 8, (9, 9), (5, 5), padding=2, name="few channels"),
    ConvCase(1, 8, 1, (9, 9), (3, 3), padding=1, name="one output channel"),
]
EXACT = [algorithm.name for algorithm in plan.ALGORITHMS if getattr(algorithm, "exact", True)]


def misaligned(x):
    """The same values and strides, a byte beside where they belong."""
    copy = np.ndarray(x.shape, x.dtype, np.zeros(x.nbytes + 1, np.uint8), 1, x.strides)
    copy[...] = x
    assert not copy.flags.aligned
    return copy


@pytest.mark.parametrize("place", [np.asarray, misaligned])
@pytest.mark.parametrize(
    ("case", "algorithm", "direction"),
    [(c, a, d) for c in CASES for a in EXACT for d in directions(c, a)],
    ids=str,
)
def test_three_calls_of_different_arrays(case, algorithm, direction, place):
    options = {**case.options, "algorithm": algorithm}
    for seed in range(3):
        x = integers(case.input_shape, case.dtype, seed)
        weight = integers(case.weight_shape, case.dtype, seed + 10)
        bias = integers((case.out_channels,), case.dtype, seed + 20)
        grad = integers(users_geometry(case).output_shape, case.dtype, seed + 30)
        image, back = (place(in_order(a, "channels_last")) for a in (x, grad))
        if direction == "forward":
            got = conv_forward(image, place(weight), place(bias), **options)
            want = naive.conv_forward(x, weight, bias, **case.options)
        elif direction == "backward_data":
            got = conv_backward_data(back, place(weight), x.shape, **options)
            want = naive.conv_backward_data(grad, weight, x.shape, **case.options)
        else:
            got = conv_backward_weight(back, image, weight.shape, **options)
            want = naive.conv_backward_weight(grad, x, weight.shape, **case.options)
        np.testing.assert_array_equal(got, want)


def test_large_programs_compute_the_same(monkeypatch):
    case = ConvCase(1, 4, 4, (12, 12), (5, 5), 4, 2, name="phases")
    x, weight = integers(case.input_shape), integers(case.weight_shape, seed=1)
    grad = integers(users_geometry(case).output_shape, seed=2)
    want = naive.conv_backward_data(grad, weight, x.shape, **case.options)
    monkeypatch.setattr(_program, "LARGE_BYTES", 100)
    calls._backward_data.cache_clear()
    for _ in range(2):
        got = conv_backward_data(grad, weight, x.shape, **case.options, algorithm="indirect")
        np.testing.assert_array_equal(got, want)
    calls._backward_data.cache_clear()
