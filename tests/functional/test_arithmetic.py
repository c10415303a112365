"""Arithmetic, element-wise functions, reductions and products against NumPy; gradients by finite differences."""

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import functional as F
from numbacnn.autograd import gradcheck
from numbacnn.errors import DTypeError, ShapeError

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape)


def positive(*shape):
    return RNG.uniform(0.5, 2.0, shape)


SHAPES = [((3, 4), (3, 4)), ((3, 4), (4,)), ((3, 1), (2, 3, 4)), ((), (3,)), ((2, 1, 3), (1, 4, 1)), ((0, 3), (3,))]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("ours", "numpys"),
    [
        (F.add, np.add),
        (F.sub, np.subtract),
        (F.mul, np.multiply),
        (F.div, np.divide),
        (F.pow, np.power),
        (F.maximum, np.maximum),
        (F.minimum, np.minimum),
    ],
    ids=lambda f: f.__name__,
)
def test_binary(ours, numpys, shapes):
    a, b = (positive(*shape) for shape in shapes)
    np.testing.assert_array_equal(ours(a, b).data, numpys(a, b))
    assert gradcheck(ours, [a, b])


@pytest.mark.parametrize(
    ("function", "numpys"),
    [
        (F.exp, np.exp),
        (F.log, np.log),
        (F.sqrt, np.sqrt),
        (F.neg, np.negative),
        (F.abs, np.abs),
        (lambda x: x**3, lambda x: x**3),
        (lambda x: x**-0.5, lambda x: x**-0.5),
        (lambda x: x**0, lambda x: x**0),
        (lambda x: 2**x, lambda x: 2**x),
        (lambda x: 1 - x, lambda x: 1 - x),
        (lambda x: 3 / x, lambda x: 3 / x),
        (lambda x: F.clip(x, 0.7, 1.5), lambda x: np.clip(x, 0.7, 1.5)),
        (lambda x: x.clip(max=1.5), lambda x: np.minimum(x, 1.5)),
        (lambda x: x.clip(1), lambda x: np.maximum(x, 1)),
        (lambda x: x.clip(), lambda x: x),
    ],
)
@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4)], ids=str)
def test_unary(function, numpys, shape):
    x = positive(*shape)
    np.testing.assert_allclose(function(nc.Tensor(x)).data, numpys(x), rtol=1e-15)
    assert function(nc.Tensor(x.astype(np.float32))).dtype == np.float32
    assert gradcheck(function, x)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2), (-1, 0, 1), np.int64(1)], ids=str)
@pytest.mark.parametrize("name", ["sum", "mean", "max", "min"])
def test_reductions(name, axis, keepdims):
    x = normal(3, 4, 5)
    expected = getattr(np, name)(x, axis=axis, keepdims=keepdims)
    result = getattr(F, name)(x, axis, keepdims)
    np.testing.assert_array_equal(result.data, expected)
    assert result.shape == expected.shape
    assert gradcheck(lambda x: getattr(x, name)(axis, keepdims), x)


def test_reductions_of_everything_and_nothing():
    assert F.sum(np.zeros((0, 3), np.float32)).item() == 0
    assert gradcheck(lambda x: x.sum(0), np.zeros((0, 3)))
    with pytest.raises(ShapeError, match=r"max of a tensor of shape \(0, 3\), which has no elements"):
        F.max(np.zeros((0, 3)))
    with pytest.raises(DTypeError, match="mean needs floating-point"):
        F.mean([1, 2])
    assert F.sum([1, 2]).item() == 3


def gradient(function, *values):
    tensors = [nc.Tensor(np.asarray(value, np.float64), requires_grad=True) for value in values]
    function(*tensors).sum().backward()
    return [tensor.grad.tolist() for tensor in tensors]


def test_ties_share_the_gradient():
    assert gradient(F.max, [1.0, 3.0, 3.0]) == [[0.0, 0.5, 0.5]]
    assert gradient(F.min, [[1.0, 1.0], [2.0, 2.0]]) == [[[0.5, 0.5], [0.0, 0.0]]]
    assert gradient(F.maximum, [1.0, 2.0], [1.0, 3.0]) == [[0.5, 0.0], [0.5, 1.0]]


def test_nan_wins_and_takes_the_gradient():
    nan = float("nan")
    assert np.isnan(F.max([1.0, nan]).item())
    assert np.isnan(F.clip([nan], 0, 1).data).all()
    assert gradient(F.max, [1.0, nan, 2.0]) == [[0.0, 1.0, 0.0]]
    assert gradient(F.maximum, [nan], [1.0]) == [[1.0], [0.0]]


def test_gradients_at_corners():
    assert gradient(F.abs, [0.0]) == [[0.0]]
    assert gradient(lambda x: F.clip(x, 0, 1), [0.0, 1.0, 1.5]) == [[1.0, 1.0, 0.0]]
    assert gradient(lambda x: x**2, [0.0]) == [[0.0]]
    assert gradient(lambda x: x**0, [0.0]) == [[0.0]]
    assert gradient(F.pow, [0.0, 2.0], [2.0, 0.0]) == [[0.0, 0.0], [0.0, float(np.log(2))]]


def test_where():
    condition, a, b = normal(3, 4) > 0, normal(3, 4), normal(4)
    np.testing.assert_array_equal(F.where(condition, a, b).data, np.where(condition, a, b))
    assert gradcheck(lambda a, b: F.where(nc.Tensor(condition), a, b), [a, b])
    assert gradcheck(lambda a: F.where(condition, a, 0), a)
    assert gradcheck(lambda b: F.where(condition, 0, b), b)
    # What was not chosen gets no gradient, not even NaN.
    assert gradient(lambda x: F.where(np.array([True, False]), x, 0.0), [1.0, 2.0]) == [[1.0, 0.0]]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3, 4), (4, 5)),
        ((4,), (4,)),
        ((4,), (4, 5)),
        ((3, 4), (4,)),
        ((2, 3, 4), (2, 4, 5)),
        ((2, 3, 4), (4, 5)),
        ((3, 4), (2, 4, 5)),
        ((6, 1, 3, 4), (2, 4, 5)),
        ((2, 3, 4), (4,)),
        ((4,), (2, 4, 5)),
        ((0, 4), (4, 5)),
    ],
    ids=str,
)
def test_matmul(a, b):
    a, b = normal(*a), normal(*b)
    np.testing.assert_allclose(F.matmul(a, b).data, a @ b, rtol=1e-12, atol=1e-14)
    assert gradcheck(lambda a, b: a @ b, [a, b])


def test_matmul_errors():
    with pytest.raises(ShapeError, match=r"shapes \(2, 3\) and \(2, 3\) do not fit"):
        F.matmul(np.zeros((2, 3)), np.zeros((2, 3)))
    with pytest.raises(ShapeError, match="do not fit"):
        F.matmul(np.zeros(()), np.zeros(3))


def test_shapes_that_do_not_broadcast():
    for function in (F.add, F.mul, F.div, F.maximum):
        with pytest.raises(ShapeError, match=r"\(2,\) and \(3,\) do not broadcast"):
            function(np.zeros(2), np.zeros(3))
    with pytest.raises(ShapeError, match=r"where: shapes \(2,\), \(3,\) and \(\) do not broadcast"):
        F.where(np.ones(2, bool), np.zeros(3), 0)


# ----------------------------------------------------------------------------------------------------------- dtypes

F32 = np.ones(3, np.float32)


@pytest.mark.parametrize(
    "operand", [2, 2.5, np.float64(2.5), np.int64(2), np.array(2.5), True, np.arange(3), np.ones(3, bool)], ids=repr
)
def test_numbers_and_integers_take_the_dtype_of_the_floats(operand):
    x = nc.Tensor(F32, requires_grad=True)
    results = [x + operand, x * operand, operand - x, operand / x, F.maximum(x, operand)]
    for result in results:
        assert result.dtype == np.float32
    sum(result.sum() for result in results).backward()
    assert x.grad.dtype == np.float32


def test_mixed_floats_are_refused():
    x = nc.Tensor(F32)
    for function in (F.add, F.mul, F.matmul, F.maximum):
        with pytest.raises(DTypeError, match=r"float32 and float64.*astype\(np\.float32\)"):
            function(x, np.ones(3))


def test_integers_stay_integers():
    x = nc.Tensor([1, 2])
    assert (x + 1).dtype == np.int64
    assert (x * 0.5).dtype == np.float32
    for function in (F.exp, F.log, F.sqrt):
        with pytest.raises(DTypeError, match=f"{function.__name__} needs floating-point values, got int64"):
            function(x)


def test_astype():
    x = nc.Tensor(F32, requires_grad=True)
    y = x.astype(np.float64)
    assert y.dtype == np.float64
    (y * 2).sum().backward()
    assert x.grad.dtype == np.float32
    assert x.grad.tolist() == [2.0] * 3
    with pytest.raises(DTypeError, match="detach"):
        x.astype(int)
    assert x.detach().astype(int).dtype == int


def test_memory_order_is_kept():
    x = np.moveaxis(np.ones((2, 4, 5, 3), np.float32), -1, 1)
    for y in (F.add(x, x), F.mul(x, 2), F.exp(x), F.clip(x, 0, 1), F.maximum(x, 0)):
        assert y.data.strides == x.strides


def test_what_is_saved():
    # The sum of two activations needs neither of them for its gradient.
    import weakref

    x = nc.Tensor(F32, requires_grad=True)
    hidden = x * 2
    reference = weakref.ref(hidden.data)
    out = hidden + 1
    del hidden
    assert reference() is None
    out.sum().backward()
    assert x.grad.tolist() == [2.0] * 3
