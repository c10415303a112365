"""Which algorithm runs a convolution, and what is said of the others."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn.errors import OptionError
from numbacnn.ops import conv_forward, explain
from numbacnn.ops.conv import plan

ALGORITHMS = [module.name for module in plan.ALGORITHMS]


def test_explain_says_why_not_the_others():
    choice = explain((1, 64, 56, 56), (64, 64, 3, 3), padding=1)
    assert choice.algorithm == "winograd"
    refused = (
        "  not pointwise: the kernel has 9 taps\n"
        "  not fft: 9 taps are few\n"
        "  not periods: groups have 64 input and 64 output channels, not one each\n"
        "  not depthwise: groups have 64 input and 64 output channels, not one each\n"
        "  not grouped: all channels are in one group\n"
        "  not strips: all channels are in one group"
    )
    assert str(choice) == "forward: winograd\n" + refused
    choice = explain((1, 64, 56, 56), (64, 64, 3, 3), padding=1, precision="exact")
    refused = refused.replace("9 taps are few", "precision is 'exact'")
    refused += "\n  not winograd: precision is 'exact'\n  not patches: 64 input channels are more than 16"
    refused += "\n  not turned: it is for data gradients"
    refused += "\n  not lane_sums: it is for data gradients"
    refused += "\n  not row_runs: 64 input channels are more than 16"
    refused += "\n  not col2im: it is for data gradients"
    assert str(choice) == "forward: indirect\n" + refused


@pytest.mark.parametrize(
    ("shapes", "options", "direction", "algorithm"),
    [
        (((1, 64, 9, 9), (32, 64, 1, 1)), {}, "forward", "pointwise"),
        (((1, 64, 9, 9), (32, 64, 1, 1)), {"stride": 2}, "forward", "pointwise"),
        (((1, 64, 9, 9), (32, 64, 1, 1)), {"stride": 2}, "backward_weight", "indirect"),
        (((1, 64, 9, 9), (32, 64, 1, 1)), {"padding": 1}, "backward_data", "indirect"),
        (((1, 64, 9, 9), (64, 1, 3, 3)), {"groups": 64}, "forward", "depthwise"),
        (((1, 64, 9, 9), (64, 1, 3, 3)), {"groups": 64}, "backward_weight", "depthwise"),
        (((1, 3, 9, 9), (64, 3, 3, 3)), {}, "forward", "row_runs"),
        (((1, 3, 9, 9), (64, 3, 3, 3)), {}, "backward_data", "row_runs"),
    ],
)
def test_choice(shapes, options, direction, algorithm):
    choice = explain(*shapes, direction=direction, **options)
    assert choice.algorithm == algorithm
    assert list(dict(choice.refused)) == ALGORITHMS[: ALGORITHMS.index(algorithm)]
    assert explain(*shapes, direction=direction, **options, algorithm="indirect").refused == ()


def test_unknown_algorithm():
    x, weight = np.ones((1, 2, 4)), np.ones((2, 2, 3))
    message = f"algorithm must be one of auto, {', '.join(ALGORITHMS)}; got 'winogradd'"
    with pytest.raises(OptionError, match=message):
        conv_forward(x, weight, algorithm="winogradd")
    with pytest.raises(OptionError, match=message):
        explain(x.shape, weight.shape, algorithm="winogradd")
    with pytest.raises(OptionError, match="direction must be one of 'forward', 'backward_data', 'backward_weight'"):
        explain(x.shape, weight.shape, direction="backward")


@pytest.mark.parametrize(
    ("algorithm", "weight_shape", "options", "reason"),
    [
        ("pointwise", (4, 4, 3, 3), {}, "the kernel has 9 taps"),
        ("pointwise", (4, 4, 1, 1), {"padding": (0, 1)}, "there is padding"),
        ("depthwise", (4, 2, 3, 3), {"groups": 2}, "groups have 2 input and 2 output channels, not one each"),
    ],
)
def test_an_algorithm_that_refuses(algorithm, weight_shape, options, reason):
    with pytest.raises(OptionError, match=f"algorithm='{algorithm}' cannot run forward of this convolution: {reason}"):
        conv_forward(np.ones((1, 4, 6, 6)), np.ones(weight_shape), **options, algorithm=algorithm)
