"""The gradient check finds every kind of error it claims to find."""

import numpy as np
import pytest

import numbacnn as nc
from numbacnn.autograd import apply, as_tensor, gradcheck
from numbacnn.errors import DTypeError, GradientError

X = np.random.default_rng(0).standard_normal((3, 4))
Y = np.random.default_rng(1).standard_normal((3, 4))


def product(x, y, backward):
    x, y = as_tensor(x), as_tensor(y)
    return apply("product", (x, y), x.data * y.data, lambda grad, needs: backward(x.data, y.data, grad, needs))


def test_right_gradients_pass():
    assert gradcheck(lambda x, y: product(x, y, lambda a, b, grad, needs: (grad * b, grad * a)), [X, Y])
    assert gradcheck(lambda x: x.sum(), X)


@pytest.mark.parametrize(
    ("backward", "message"),
    [
        (lambda a, b, grad, needs: (grad * b, grad * a * 1.001), r"input 1 .* is wrong"),
        (lambda a, b, grad, needs: (grad * b * (np.arange(12).reshape(3, 4) != 5), grad * a), r"input 0 .* is wrong"),
        (lambda a, b, grad, needs: (None, grad * a), r"input 0 .* is wrong"),
        (lambda a, b, grad, needs: (grad * b if all(needs) else None, grad * a), "no other input requires one"),
        (lambda a, b, grad, needs: (grad.ravel(order="K").reshape(3, 4) * b, grad * a), "memory layout"),
        (lambda a, b, grad, needs: (np.multiply(grad, b, out=grad), grad * a), "changed in place"),
        (lambda a, b, grad, needs: (grad * b, grad * np.nan), r"input 1 .* is wrong"),
    ],
)
def test_wrong_gradients_are_found(backward, message):
    with pytest.raises(GradientError, match=message):
        gradcheck(lambda x, y: product(x, y, backward), [X, Y])


def test_only_float64():
    with pytest.raises(DTypeError, match="input 0 is float32"):
        gradcheck(lambda x: x, X.astype(np.float32))


def test_an_output_that_depends_on_nothing():
    assert gradcheck(lambda x: nc.Tensor(np.ones(2)), X)
