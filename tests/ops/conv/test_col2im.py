"""The data gradient as one product with the weights as they lie, forced, against the oracle; and when it is chosen."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn.errors import OptionError
from numbacnn.ops import conv_backward_data, conv_forward, explain
from numbacnn.ops.conv import col2im
from tests.bits import assert_same_bits
from tests.cases import ConvCase
from tests.ops.conv import checks

ALGORITHM = "col2im"


def check(case):
    checks.check(case, ALGORITHM, ["backward_data"])


@pytest.mark.parametrize("channels", [1, 3, 8, 16, 17, 40, 130])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_channels(channels, dtype):
    """Every way that vectors, and blocks of channels, may be filled."""
    check(ConvCase(2, channels, 21, (7, 9), (3, 2), 2, 1, dtype=dtype))


@pytest.mark.parametrize(
    "case",
    [
        ConvCase(2, 20, 9, (11, 12), (3, 5), (1, 3), (2, 0), (2, 1)),
        ConvCase(2, 20, 9, (11, 12), (2, 2), 4),
        ConvCase(2, 20, 9, (11, 12), (1, 1), (2, 3), 1),
        ConvCase(2, 33, 9, (40,), (15,), 4, 7),
        ConvCase(1, 20, 9, (5, 6, 7), (3, 2, 3), (2, 1, 3), 1),
        ConvCase(1, 20, 9, (4, 4), (7, 7), 2, 3, name="most taps read padding"),
        ConvCase(1, 3, 2, (500,), (400,), 9, 20, name="very many taps"),
        ConvCase(2, 3, 9, (5, 6), (2, 3), 1, 5, name="whole lines of taps read padding"),
        ConvCase(2, 20, 9, (11, 6), (3, 3), 2, 2, padding_mode="circular"),
        ConvCase(2, 20, 9, (11, 6), (3, 3), 1, 2, padding_mode="reflect"),
        ConvCase(2, 20, 9, (2, 3, 6), (3, 3, 3), 2, 1, padding_mode="replicate", dtype="float64"),
        ConvCase(0, 20, 9, (11, 12), (3, 3), 2),
    ],
    ids=str,
)
def test_geometries(case):
    check(case)


@pytest.mark.parametrize(
    ("limit", "parts"), [(20000, [(2, 30), (2, 30), (1, 30)]), (5000, [(1, 15)] * 10), (900, [(1, 3)] * 50)]
)
def test_portions(limit, parts, tune):
    """Samples go through in portions, or the channels of one."""
    tune(col2im, PRODUCT_BYTES=limit, FEW_CHANNELS=1)
    case = ConvCase(5, 30, 9, (10, 7), (3, 2), 2)
    points, taps = 12, 6
    cut = col2im._parts(checks.geometry_of(case), np.dtype("float32"))
    assert [(p.samples.stop - p.samples.start, p.products // (points * taps)) for p in cut] == [
        (samples, samples * channels) for samples, channels in parts
    ]
    check(case)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits_for_any_number_of_threads_and_samples(dtype, tune):
    generator = np.random.default_rng(0)
    grad = generator.standard_normal((3, 150, 5, 6)).astype(dtype)
    weight = generator.standard_normal((150, 90, 3, 3)).astype(dtype)

    def gradient(grad):
        return conv_backward_data(grad, weight, (len(grad), 90, 9, 11), stride=2, padding=1, algorithm=ALGORITHM)

    assert_same_bits(lambda: gradient(grad))
    whole = gradient(grad)
    for n in range(3):
        assert whole[n : n + 1].tobytes() == gradient(grad[n : n + 1]).tobytes()
    tune(col2im, PRODUCT_BYTES=20 * 9 * 7 * 8, FEW_CHANNELS=1)
    assert gradient(grad).tobytes() == whole.tobytes()


def test_nan_stays_where_it_is():
    grad = np.zeros((1, 16, 5, 5), np.float32)
    grad[0, 3, 2, 2] = np.nan
    result = conv_backward_data(
        grad, np.ones((16, 3, 3, 3), np.float32), (1, 3, 9, 9), stride=2, padding=1, algorithm=ALGORITHM
    )
    near = np.zeros((9, 9), bool)
    near[3:6, 3:6] = True
    np.testing.assert_array_equal(np.isnan(result[0]), np.broadcast_to(near, (3, 9, 9)))


@pytest.mark.parametrize(
    ("x", "weight", "options", "chosen"),
    [
        ((1, 640, 12, 12), (768, 640, 3, 3), {"stride": 4, "padding": 1}, True),
        ((64, 640, 12, 12), (768, 640, 3, 3), {"stride": 4, "padding": 1}, True),  # whatever the batch
        ((1, 512, 7, 7), (512, 512, 3, 3), {"stride": 2, "padding": 1}, True),
        ((1, 32, 17, 17), (112, 32, 5, 5), {"padding": (8, 0), "dilation": 4}, True),  # a single column of outputs
        ((1, 64, 56, 56), (128, 64, 3, 3), {"stride": 2, "padding": 1}, False),  # many positions
        ((1, 512, 14, 14), (16, 512, 3, 3), {"stride": 2, "padding": 1}, False),  # few terms per product
    ],
)
def test_choice(x, weight, options, chosen):
    assert (explain(x, weight, direction="backward_data", **options).algorithm == ALGORITHM) == chosen


def test_reasons():
    def reason(direction, x, weight, **options):
        return dict(explain(x, weight, direction=direction, **options).refused)[ALGORITHM]

    assert reason("forward", (1, 20, 9, 9), (40, 20, 3, 3), stride=2) == "it is for data gradients"
    assert reason("backward_data", (1, 80, 9, 9), (80, 40, 3, 3), groups=2, stride=2) == "groups is 2, not 1"
    message = reason("backward_data", (1, 20, 999, 99), (9, 20, 3, 3), stride=2)
    assert message == "the products of 16 channels take too much memory"
    message = reason("backward_data", (1, 512, 6399), (512, 512, 3), stride=2)
    assert message == "3199 positions per sample share packed weights"
    message = reason("backward_data", (1, 64, 20, 20), (32, 64, 3, 3), stride=2)
    assert message.startswith("it is expected to take ")
    assert message.endswith(" times as long as the general algorithm")
    with pytest.raises(OptionError, match="algorithm='col2im' cannot run forward of this convolution: it is for data"):
        conv_forward(np.ones((1, 2, 9)), np.ones((3, 2, 3)), algorithm=ALGORITHM)
