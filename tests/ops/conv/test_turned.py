"""Data gradients as convolutions with turned weights, forced, against the oracle."""

import numpy as np
import pytest

from numbacnn.ops import conv_backward_data, explain
from numbacnn.ops.conv import blocking, turned
from numbacnn.ops.geometry import conv_geometry
from tests.bits import assert_same_bits
from tests.cases import ConvCase
from tests.ops.conv import checks

ALGORITHM = "turned"

CASES = [
    ConvCase(2, 40, 4, (15, 17), (3, 3), padding=1, name="as large as the output"),
    ConvCase(2, 33, 9, (70,), (5,), dilation=2, name="dilation, no padding"),
    ConvCase(1, 5, 7, (9, 8, 7), (3, 2, 3), padding=(1, 0, 2), dilation=(1, 2, 1), name="3-D"),
    ConvCase(1, 3, 3, (20, 30), (3, 4), padding=(0, 3), name="all the padding that the kernel reaches"),
    ConvCase(1, 2, 1, (11, 300), (1, 9), padding=(0, 4), name="one row of taps"),
    ConvCase(3, 64, 2, (6, 5), (6, 5), name="one output"),
    ConvCase(2, 1, 16, (13, 12), (2, 2), padding=1, name="one input channel"),
    ConvCase(0, 4, 3, (13, 12), (2, 2), name="no samples"),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_turned(case, dtype, guarded):
    checks.check(case._replace(dtype=dtype), ALGORITHM, ["backward_data"])


def test_uneven_padding():
    checks.check(ConvCase(1, 3, 2, (9, 10), (4, 3), padding=((0, 3), (2, 1))), ALGORITHM, ["backward_data"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits_for_any_number_of_threads_and_any_batch(dtype):
    generator = np.random.default_rng(0)
    grad = generator.standard_normal((3, 6, 40, 30)).astype(dtype)
    weight = generator.standard_normal((6, 20, 3, 3)).astype(dtype)

    def gradient(grad):
        shape = (len(grad), 20, 40, 30)
        return conv_backward_data(grad, weight, shape, padding=1, algorithm=ALGORITHM)

    assert_same_bits(lambda: (gradient(grad),))
    np.testing.assert_array_equal(gradient(grad)[1:2], gradient(grad[1:2]))


@pytest.mark.parametrize(
    ("shapes", "options", "reason"),
    [
        (((1, 3, 9, 9), (4, 3, 3, 3)), {"stride": (1, 2)}, "the stride is (1, 1, 2)"),
        (((1, 3, 9, 9), (4, 3, 3, 3)), {"padding": 1, "padding_mode": "reflect"}, "padding repeats the image"),
        (((1, 3, 9, 9), (4, 3, 3, 3)), {"padding": 3}, "more padding than the kernel reaches"),
        (((1, 64, 9, 9), (64, 32, 3, 3)), {"groups": 2}, "groups is 2"),
        (((1, 64, 9, 9), (70, 64, 3, 3)), {}, "turned around, 70 input channels are more than 64"),
    ],
)
def test_refusals(shapes, options, reason):
    assert reason in turned.accepts("backward_data", conv_geometry(*shapes, **options))


def test_it_is_for_data_gradients():
    g = conv_geometry((1, 32, 9, 9), (4, 32, 3, 3))
    for direction in ("forward", "backward_weight"):
        assert turned.accepts(direction, g) == "it is for data gradients"
    assert turned.accepts("backward_data", g) is None


@pytest.mark.parametrize(
    ("in_channels", "out_channels", "chosen"), [(64, 3, True), (2, 8, True), (2, 9, False), (2, 1, True)]
)
def test_many_output_channels_for_each_input_channel_are_for_row_runs(in_channels, out_channels, chosen):
    shapes = (1, in_channels, 64, 64), (out_channels, in_channels, 3, 3)
    choice = explain(*shapes, direction="backward_data", padding=1)
    assert choice.algorithm == (ALGORITHM if chosen else "row_runs")


@pytest.mark.skipif(not blocking.WIDE_VECTORS, reason="weighed beside vectors of 64 bytes")
@pytest.mark.parametrize(("channels", "chosen"), [(16, ALGORITHM), (64, "winograd")])
def test_winograd_is_weighed_against_turned_weights(channels, chosen):
    choice = explain((32, channels, 32, 32), (channels, channels, 3, 3), direction="backward_data", padding=1)
    assert choice.algorithm == chosen
    if chosen == ALGORITHM:
        assert "times as long as turned" in dict(choice.refused)["winograd"]
