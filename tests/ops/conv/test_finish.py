"""A residual and an activation where a convolution writes: the bits of separate passes, for every algorithm."""

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import functional as F
from numbacnn.errors import DTypeError, OptionError, ShapeError
from numbacnn.ops import conv_forward, explain
from numbacnn.ops.activation import relu6_forward, relu_forward
from tests.cases import CONV_CASES, conv_arrays

PASSES = {None: lambda y: y, "relu": relu_forward, "relu6": relu6_forward}

# Input, weight, options: one problem or more for every algorithm that has a forward direction.
PROBLEMS = {
    "pointwise": ((2, 40, 5, 7), (37, 40, 1, 1), {}),
    "pointwise of few channels": ((1, 5, 70), (3, 5, 1), {}),
    "fft": ((1, 2, 3000), (3, 2, 700), {"padding": 350, "algorithm": "fft"}),
    "periods": ((2, 12, 9, 9), (12, 1, 3, 3), {"padding": 1, "groups": 12}),
    "depthwise": ((2, 331, 9, 9), (331, 1, 5, 5), {"stride": 2, "padding": 2, "groups": 331}),
    "strips": ((1, 12, 9, 9), (24, 2, 3, 3), {"padding": 1, "groups": 6}),
    "grouped of small groups": ((2, 35, 9, 9), (30, 7, 3, 3), {"padding": 1, "groups": 5}),
    "grouped": ((2, 40, 9, 9), (36, 10, 3, 3), {"padding": 1, "groups": 4}),
    "winograd": ((2, 64, 13, 14), (40, 64, 3, 3), {"padding": 1, "algorithm": "winograd"}),
    "patches": ((2, 3, 32, 48), (180, 3, 16, 16), {"stride": 16}),
    "row_runs": ((2, 3, 15, 17), (21, 3, 5, 5), {"stride": 2, "padding": 2}),
    "indirect": ((2, 70, 6, 6), (19, 70, 3, 3), {"dilation": 2, "padding": 2}),
    "indirect of blocks of channels": ((1, 600, 4, 4, 4), (17, 600, 3, 3, 3), {"padding": 1, "algorithm": "indirect"}),
    "indirect of one channel": ((2, 64, 9), (1, 64, 3), {"algorithm": "indirect"}),
    "indirect of pairs of groups": ((2, 32, 9, 9), (32, 8, 3, 3), {"groups": 4, "algorithm": "indirect"}),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_bits_of_separate_passes(problem, dtype):
    shape, weight_shape, options = PROBLEMS[problem]
    rng = np.random.default_rng(0)
    x, w, b = (3 * rng.standard_normal(s).astype(dtype) for s in (shape, weight_shape, weight_shape[:1]))
    y = conv_forward(x, w, b, **options)
    r = rng.standard_normal(y.shape).astype(dtype)
    for name, function in PASSES.items():
        np.testing.assert_array_equal(conv_forward(x, w, b, activation=name, **options), function(y))
        np.testing.assert_array_equal(conv_forward(x, w, b, residual=r, activation=name, **options), function(y + r))
    assert (function(y + r) == 6).any()
    assert (function(y + r) == 0).any()


def test_the_problems_cover_all_algorithms_that_go_forward():
    met = {explain(shape, weight, **options).algorithm for shape, weight, options in PROBLEMS.values()}
    assert met == {algorithm.name for algorithm in nc.ops.conv.plan.ALGORITHMS if hasattr(algorithm, "forward")}


@pytest.mark.parametrize("case", CONV_CASES, ids=str)
def test_any_geometry(case):
    x, w, b = conv_arrays(case)
    y = conv_forward(x, w, b, **case.options)
    r = np.random.default_rng(1).integers(-3, 4, y.shape).astype(y.dtype)[..., ::-1]
    out = conv_forward(x, w, b, residual=r, activation="relu", **case.options)
    np.testing.assert_array_equal(out, np.maximum(y + r, 0))


def test_without_a_batch_axis_and_empty():
    x, w = np.ones((3, 5, 5), np.float32), np.ones((4, 3, 3, 3), np.float32)
    r = np.full((4, 3, 3), -30, np.float32)
    np.testing.assert_array_equal(conv_forward(x, w, residual=r, activation="relu"), 0)
    none = conv_forward(x[None][:0], w, residual=r[None][:0], activation="relu")
    assert none.shape == (0, 4, 3, 3)


@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_nan_stays(activation):
    x = np.array([[[np.nan, -1.0, 1.0]]])
    np.testing.assert_array_equal(
        conv_forward(x, np.ones((1, 1, 1)), activation=activation), np.array([[[np.nan, 0.0, 1.0]]])
    )


@pytest.mark.parametrize("activation", [None, "relu", "relu6"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_gradients(rank, activation):
    rng = np.random.default_rng(rank)
    x, w, b = (
        nc.Tensor(rng.standard_normal(s), requires_grad=True) for s in ((2, 3, *[5] * rank), (4, 3, *[3] * rank), (4,))
    )
    r = nc.Tensor(rng.standard_normal((2, 4, *[5] * rank)), requires_grad=True)
    conv = getattr(F, f"conv{rank}d")
    assert nc.autograd.gradcheck(
        lambda x, w, b, r: conv(x, w, b, padding=1, residual=r, activation=activation), (x, w, b, r)
    )


def test_gradients_have_the_bits_of_separate_functions():
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(s).astype(np.float32) for s in ((2, 16, 9, 9), (24, 16, 3, 3), (24,), (2, 24, 9, 9))]
    grad = rng.standard_normal((2, 24, 9, 9)).astype(np.float32)

    def gradients(function):
        tensors = [nc.Tensor(v, requires_grad=True) for v in values]
        function(*tensors).backward(grad)
        return [t.grad for t in tensors]

    together = gradients(lambda x, w, b, r: F.conv2d(x, w, b, padding=1, residual=r, activation="relu"))
    apart = gradients(lambda x, w, b, r: F.relu(F.conv2d(x, w, b, padding=1) + r))
    for a, b in zip(together, apart, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("activation", ["relu", "relu6"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_transposed_convolutions_have_the_bits_of_separate_functions(rank, activation):
    rng = np.random.default_rng(rank)
    values = [5 * rng.standard_normal(s).astype(np.float32) for s in ((2, 3, *[5] * rank), (3, 4, *[3] * rank), (4,))]
    options = {"stride": 2, "padding": 1, "output_padding": 1}
    conv = getattr(F, f"conv_transpose{rank}d")
    outputs, gradients = [], []
    for function in (
        lambda *tensors: conv(*tensors, activation=activation, **options),
        lambda *tensors: getattr(F, activation)(conv(*tensors, **options)),
    ):
        tensors = [nc.Tensor(v, requires_grad=True) for v in values]
        y = function(*tensors)
        y.backward(np.ones(y.shape, np.float32))
        outputs.append(y.data)
        gradients.append([t.grad for t in tensors])
    np.testing.assert_array_equal(*outputs)
    assert (outputs[0] == 0).any()
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(OptionError, match="activation must be one of 'relu', 'relu6'; got 'tanh'"):
        conv(*values, activation="tanh")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"activation": "gelu"}, OptionError, "activation must be one of 'relu', 'relu6'; got 'gelu'"),
        (
            {"residual": np.zeros((1, 2, 4), np.float32)},
            ShapeError,
            r"residual must have the shape of the result, \(1, 2, 5\); got \(1, 2, 4\)",
        ),
        ({"residual": np.zeros((1, 2, 5))}, DTypeError, "residual.*float64"),
    ],
)
def test_errors(options, error, message):
    with pytest.raises(error, match=message):
        conv_forward(np.zeros((1, 3, 5), np.float32), np.zeros((2, 3, 1), np.float32), **options)
