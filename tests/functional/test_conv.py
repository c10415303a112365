"""Convolutions and transposed convolutions as differentiable functions: values against the oracle, gradients by
finite differences. The kernels themselves have the whole case table in tests/ops."""

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import functional as F
from numbacnn.autograd import gradcheck
from numbacnn.errors import DTypeError, OptionError, ShapeError
from tests import naive
from tests.cases import integers

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
SIZES = {1: (9,), 2: (6, 7), 3: (4, 5, 4)}
KERNELS = {1: (3,), 2: (3, 2), 3: (2, 3, 2)}
RANKS = (1, 2, 3)


def operands(rank, in_channels=4, out_channels=6, groups=1, transpose=False, batch=2):
    """Input, weight and bias in float64."""
    shape = (in_channels, out_channels // groups) if transpose else (out_channels, in_channels // groups)
    x = integers((batch, in_channels, *SIZES[rank]), "float64", 0)
    return x, integers((*shape, *KERNELS[rank]), "float64", 1), integers((out_channels,), "float64", 2)


OPTIONS = [
    {},
    {"stride": 2, "padding": 1},
    {"dilation": 2, "padding": "same"},
    {"groups": 2, "padding": 1, "padding_mode": "reflect"},
    {"padding": 2, "padding_mode": "circular"},
    {"padding": "causal", "padding_mode": "replicate"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("rank", RANKS)
def test_conv(rank, options):
    arrays = operands(rank, groups=options.get("groups", 1))
    np.testing.assert_array_equal(CONV[rank](*arrays, **options).data, naive.conv_forward(*arrays, **options))
    assert gradcheck(lambda *a: CONV[rank](*a, **options), arrays)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "padding": 1, "output_padding": 1},
        {"stride": 3, "dilation": 2, "groups": 2},
        {"stride": 1, "dilation": 3, "output_padding": 2},  # output_padding beyond the stride
    ],
    ids=str,
)
@pytest.mark.parametrize("rank", RANKS)
def test_conv_transpose(rank, options):
    arrays = operands(rank, groups=options.get("groups", 1), transpose=True)
    expected = naive.conv_transpose(*arrays, **options)
    np.testing.assert_array_equal(CONV_TRANSPOSE[rank](*arrays, **options).data, expected)
    assert gradcheck(lambda *a: CONV_TRANSPOSE[rank](*a, **options), arrays)


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("transpose", [False, True])
def test_unbatched_and_without_bias(rank, transpose):
    x, weight, bias = operands(rank, transpose=transpose)
    function = (CONV_TRANSPOSE if transpose else CONV)[rank]
    whole = function(x, weight, bias)
    single = function(x[1], weight, bias)
    np.testing.assert_array_equal(single.data, whole.data[1])
    np.testing.assert_array_equal(function(x, weight).data, whole.data - bias.reshape(-1, *(1,) * rank))
    assert gradcheck(function, [x[1], weight, bias])
    assert gradcheck(function, [x[1], weight])


@pytest.mark.parametrize("transpose", [False, True])
def test_only_the_gradients_that_are_needed(transpose):
    x, weight, bias = operands(2, transpose=transpose)
    function = (CONV_TRANSPOSE if transpose else CONV)[2]
    frozen = nc.Tensor(x)
    parameters = [nc.Parameter(weight), nc.Parameter(bias)]
    function(frozen, *parameters).sum().backward()
    assert frozen.grad is None
    for parameter in parameters:
        assert parameter.grad.shape == parameter.shape


@pytest.mark.parametrize("transpose", [False, True])
def test_empty_batch(transpose):
    x, weight, bias = operands(2, transpose=transpose, batch=0)
    tensors = [nc.Tensor(array, requires_grad=True) for array in (x, weight, bias)]
    out = (CONV_TRANSPOSE if transpose else CONV)[2](*tensors)
    assert out.shape[0] == 0
    out.sum().backward()
    for tensor in tensors:
        assert tensor.grad.shape == tensor.shape
        assert not tensor.grad.any()


@pytest.mark.filterwarnings("error")
def test_output_padding_is_no_reason_to_warn():
    x, weight, _ = operands(1, transpose=True)
    x = nc.Tensor(x, requires_grad=True)
    F.conv_transpose1d(x, weight, stride=7, output_padding=6).sum().backward()


def test_memory_is_channels_last():
    x, weight, bias = operands(2)
    out = F.conv2d(x, weight, bias)
    assert out.data.transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, w: F.conv1d(x, w), ShapeError, r"conv1d: input must have shape \(batch, channels, length\)"),
        (lambda x, w: F.conv2d(x, w[0]), ShapeError, r"conv2d: weight must have 4 axes.*got \(4, 3, 2\)"),
        (lambda x, w: F.conv2d(x[:, :3], w), ShapeError, "3 channels.*expects 4"),
        (lambda x, w: F.conv2d(x, w, groups=3), ShapeError, "not divisible by groups=3"),
        (lambda x, w: F.conv2d(x, w, stride=0), OptionError, "stride must be at least 1"),
        (lambda x, w: F.conv2d(x[:, :, :1], w), ShapeError, "it would fit with padding=1"),
        (lambda x, w: F.conv2d(x.astype(np.float32), w), DTypeError, "float32.*float64"),
        (lambda x, w: F.conv2d(x.astype(int), w.astype(int)), DTypeError, r"astype\(np.float32\)"),
        (lambda x, w: F.conv2d(x, w, np.ones(5)), ShapeError, "bias"),
        (lambda x, w: F.conv_transpose2d(x, w), ShapeError, r"\(C_in, C_out / groups, \*kernel\)"),
        (lambda x, w: F.conv_transpose2d(x, w[:4], padding="same"), OptionError, "no padding='same'"),
        (lambda x, w: F.conv_transpose2d(x, w[:4], output_padding=1), OptionError, "below max"),
        (lambda x, w: F.conv_transpose2d(x, w[:4], np.ones(3)), ShapeError, "bias"),
    ],
)
def test_errors(call, error, message):
    x, weight, _ = operands(2)
    with pytest.raises(error, match=message):
        call(x, weight)
