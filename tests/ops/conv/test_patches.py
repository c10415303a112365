"""Copied patches, forced, against the oracle; and when they are chosen."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn.kernels.tile import tile_lanes
from numbacnn.ops import conv_backward_weight, conv_forward, explain
from numbacnn.ops.conv import patches
from tests.bits import assert_same_bits
from tests.cases import ConvCase
from tests.ops.conv import checks

ALGORITHM = "patches"


def check(case):
    checks.check(case, ALGORITHM, ["forward", "backward_weight"])


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 16])
@pytest.mark.parametrize("columns", [1, 3, 4, 7, 16])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lines(channels, columns, dtype):
    """Every way that a line of a patch may be copied."""
    check(ConvCase(2, channels, 21, (6, 3 * columns), (2, columns), (2, columns), dtype=dtype))


@pytest.mark.parametrize(
    "case",
    [
        ConvCase(2, 3, 37, (33, 40), (7, 7), 4, 3, name="overlapping"),
        ConvCase(1, 3, 5, (6, 8, 11), (2, 3, 4), (1, 2, 3), ((1, 0), 2, (3, 2)), (2, 2, 1), name="dilated"),
        ConvCase(2, 2, 9, (11, 6), (3, 3), 2, 2, padding_mode="circular"),
        ConvCase(2, 2, 9, (11, 6), (3, 3), 1, 2, padding_mode="reflect"),
        ConvCase(2, 1, 9, (2, 3, 6), (3, 3, 3), 2, 1, padding_mode="replicate"),
        ConvCase(3, 1, 70, (1000,), (40,), 16, 20),
        ConvCase(0, 3, 9, (16, 16), (8, 8), 8),
    ],
    ids=str,
)
def test_geometries(case):
    check(case)


@pytest.mark.parametrize(
    ("whole", "portion", "starts"), [(1 << 20, 1536, [0]), (1, 7000, [0, 9, 18]), (1, 20000, [0, 14])]
)
def test_portions(whole, portion, starts, tune):
    """All patches at once, or some at a time; what follows a convolution finds its own part of the residual."""
    tune(patches, WHOLE_BYTES=whole, PORTION_BYTES=portion)
    case = ConvCase(3, 3, 40, (24, 24), (8, 8), 8)
    cut = patches._portions(checks.geometry_of(case), np.dtype("float32"))
    assert [part.first for part in cut] == starts
    assert cut[-1].last == 27
    check(case)
    x, weight, bias, residual, _ = checks.integer_operands(case)
    results = [
        conv_forward(x, weight, bias, stride=8, residual=residual, activation="relu", algorithm=algorithm)
        for algorithm in (ALGORITHM, "indirect")
    ]
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits_for_any_number_of_threads_and_samples(dtype, tune):
    generator = np.random.default_rng(0)
    x = generator.standard_normal((3, 3, 48, 64)).astype(dtype)
    weight = generator.standard_normal((90, 3, 16, 16)).astype(dtype)

    def forward(x):
        return conv_forward(x, weight, stride=16, algorithm=ALGORITHM)

    y = forward(x)
    assert_same_bits(lambda: (forward(x), conv_backward_weight(y, x, weight.shape, stride=16, algorithm=ALGORITHM)))
    for n in range(3):
        assert y[n : n + 1].tobytes() == forward(x[n : n + 1]).tobytes()
    tune(patches, WHOLE_BYTES=1, PORTION_BYTES=6144 * 5)
    assert forward(x).tobytes() == y.tobytes()


@pytest.mark.parametrize(
    ("direction", "x", "weight", "stride", "chosen"),
    [
        ("forward", (1, 3, 224, 224), (768, 3, 16, 16), 16, True),
        ("forward", (64, 3, 224, 224), (768, 3, 16, 16), 16, True),  # whatever the batch
        ("forward", (1, 3, 224, 224), (96, 3, 4, 4), 4, False),  # few weights
        ("backward_weight", (1, 3, 224, 224), (768, 3, 16, 16), 16, True),
        ("backward_weight", (64, 3, 224, 224), (768, 3, 32, 32), 32, True),
        ("backward_weight", (1, 3, 224, 224), (96, 3, 4, 4), 4, False),  # little to do with what is copied
        ("backward_weight", (1, 3, 224, 224), (384, 3, 7, 7), 2, False),  # patches overlap ...
        ("backward_weight", (4, 16, 9, 9), (256, 16, 7, 7), 1, True),  # ... of few positions
        ("backward_weight", (32, 16, 9, 9), (256, 16, 7, 7), 1, False),
        ("backward_weight", (4, 4, 8, 8), (256, 4, 5, 5), 1, tile_lanes(4) < 16),  # and few elements
        ("backward_weight", (4, 2, 8, 8), (256, 2, 5, 5), 1, False),
    ],
)
def test_choice(direction, x, weight, stride, chosen):
    assert (explain(x, weight, stride=stride, direction=direction).algorithm == ALGORITHM) == chosen


def test_reasons():
    def reason(direction, x, weight, **options):
        return dict(explain(x, weight, direction=direction, **options).refused)[ALGORITHM]

    assert reason("backward_data", (1, 3, 32, 32), (768, 3, 16, 16), stride=16) == "it is not for data gradients"
    assert reason("forward", (1, 40, 9, 9), (80, 20, 3, 3), groups=2, stride=2) == "groups is 2, not 1"
    assert reason("forward", (1, 17, 9, 9), (80, 17, 3, 3), stride=2) == "17 input channels are more than 16"
    assert reason("forward", (1, 8, 300000), (4, 8, 200000), precision="exact") == "a patch takes too much memory"
    message = "patches overlap: elements are read more than 2 times"
    assert reason("forward", (1, 3, 32, 32), (768, 3, 2, 2)) == message
    message = "1152 products per position and line are too few for a copy"
    assert reason("forward", (1, 3, 32, 32), (96, 3, 4, 4), stride=4) == message
    assert reason("forward", (1, 2, 32, 32), (512, 2, 8, 8), stride=8) == "262144 bytes of weights stay in the caches"
    message = "patches of 16 elements are too few rows of the gradient"
    assert reason("backward_weight", (1, 1, 4000), (512, 1, 16), stride=8) == message
    message = "another gradient of the weight takes too much memory"
    assert reason("backward_weight", (64, 1, 96, 96, 96), (800, 1, 16, 16, 16), stride=16) == message
