"""The data gradient of few input channels, forced, against the oracle."""

import re

import numpy as np
import pytest

from numbacnn.ops import explain
from numbacnn.ops.conv import row_runs_data
from tests.cases import ConvCase
from tests.ops.conv import checks

ALGORITHM = "row_runs"


def bands(case):
    """How many the output of a sample is cut into, along rows and along columns."""
    record = row_runs_data.plan(checks.geometry_of(case), 4, False)[0]
    return record.row_blocks, record.column_blocks


def check(case):
    checks.check(case, ALGORITHM, ["backward_data"])


@pytest.mark.parametrize(("out_channels", "in_channels"), [(1, 1), (5, 2), (8, 3), (16, 4), (17, 5), (33, 8), (9, 12)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_channels(in_channels, out_channels, dtype):
    check(ConvCase(2, in_channels, out_channels, (7, 9), (3, 2), padding=1, dtype=dtype))


@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize("dilation", [1, 2])
def test_strides_and_dilations(stride, dilation):
    check(ConvCase(1, 3, 5, (8, 9, 11), (2, 3, 4), stride, ((1, 0), 2, (3, 2)), dilation))


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 6, 7, 13, 97])
def test_number_of_positions(columns):
    """Every way that tiles of output positions may be filled."""
    check(ConvCase(1, 2, 3, (columns + 2,), (3,)))


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 15, 16, 17, 25, 33, 300, 700, 768])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_number_of_products(count, dtype):
    """Every way that panels, and vectors of a line of taps, may be filled."""
    case = ConvCase(2, 1, 5, (count + 12,), (count,), dtype=dtype)
    item = np.dtype(dtype).itemsize
    assert row_runs_data.plan(checks.geometry_of(case), item, False)[0].points > 0  # however few have room
    check(case)


@pytest.mark.parametrize(
    ("case", "cut"),
    [
        (ConvCase(1, 3, 4, (70, 60), (3, 3), padding=1), (16, 1)),
        (ConvCase(2, 3, 4, (70, 61), (7, 7), 2, 3), (4, 1)),
        (ConvCase(2, 2, 4, (40, 41), (3, 3), padding=9), (12, 1)),  # bands that own nothing but padding
        (ConvCase(1, 3, 4, (100, 70), (3, 3), (5, 1)), (5, 1)),  # rows that no tap reaches
        (ConvCase(1, 1, 4, (60, 61), (5, 3), dilation=(4, 3)), (2, 1)),
        (ConvCase(1, 1, 4, (9000,), (80,), 4, 38), (1, 8)),
        (ConvCase(2, 3, 4, (5, 2000), (5, 3)), (1, 7)),  # a single output row
        (ConvCase(1, 8, 4, (30, 1500), (8, 3), 2), (1, 16)),  # rows too long for a patch
        (ConvCase(1, 2, 4, (9, 30, 31), (3, 3, 3), padding=1), (15, 1)),
        (ConvCase(1, 1, 4, (11, 30, 31), (2, 3, 3), (3, 2, 1), dilation=(3, 2, 2)), (4, 1)),
        (ConvCase(1, 1, 4, (12, 20, 31), (2, 3, 3), (5, 1, 1)), (6, 1)),  # planes that no tap reaches
        (ConvCase(1, 1, 4, (6, 5, 700), (3, 5, 9)), (1, 10)),
    ],
    ids=lambda value: "x".join(map(str, value)) if not isinstance(value, ConvCase) else None,
)
def test_bands(case, cut):
    assert bands(case) == cut
    check(case)
    check(case._replace(dtype="float64"))


def test_samples_go_through_in_portions(tune):
    case = ConvCase(5, 3, 4, (40, 41), (3, 3), padding=1)
    record = row_runs_data.plan(checks.geometry_of(case), 4, False)[0]
    tune(row_runs_data, RIM_BYTES=2 * record.row_blocks * record.rim * 4)
    check(case)


def test_a_model_decides():
    def choice(channels, size):
        return explain((1, channels, size, size), (400, channels, 3, 3), padding=1, direction="backward_data")

    assert choice(2, 9).algorithm == choice(4, 100).algorithm == ALGORITHM
    refused = choice(12, 5)
    assert refused.algorithm == "col2im"
    assert re.fullmatch(r"it is expected to take \d\.\d\d times as long as others", dict(refused.refused)[ALGORITHM])
