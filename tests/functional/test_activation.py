"""Differentiable activation functions."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn.autograd import Tensor, gradcheck
from numbacnn.functional import activation as F

CASES = [
    (F.relu, {}),
    (F.leaky_relu, {}),
    (F.leaky_relu, {"negative_slope": 2.5}),
    (F.sigmoid, {}),
    (F.tanh, {}),
    (F.silu, {}),
    (F.gelu, {}),
    (F.gelu, {"approximate": "tanh"}),
    (F.softmax, {"dim": 1}),
    (F.softmax, {"dim": -1}),
    (F.log_softmax, {"dim": 0}),
    (F.log_softmax, {"dim": -1}),
]
cases = pytest.mark.parametrize(("function", "options"), CASES, ids=lambda c: getattr(c, "__name__", str(c)))


@cases
def test_gradcheck(function, options):
    x = np.random.default_rng(0).standard_normal((3, 4, 5))
    x[np.abs(x) < 1e-3] = 0.1  # away from the kinks
    assert gradcheck(lambda t: function(t, **options), (Tensor(x, requires_grad=True),))


@cases
def test_takes_arrays_and_records_nothing_for_them(function, options):
    out = function(np.ones((2, 3), np.float32), **options)
    assert isinstance(out, Tensor)
    assert not out.requires_grad


@cases
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_agrees_with_torch(function, options, dtype):
    torch = pytest.importorskip("torch")
    reference = getattr(torch.nn.functional, function.__name__, None) or getattr(torch, function.__name__)
    rng = np.random.default_rng(1)
    x, grad = rng.standard_normal((2, 4, 6, 5)).astype(dtype)
    x[0, 0, :2] = 0, -0.0
    ours = Tensor(x, requires_grad=True)
    out = function(ours, **options)
    out.backward(grad)
    theirs = torch.tensor(x, requires_grad=True)
    expected = reference(theirs, **options)
    expected.backward(torch.tensor(grad))
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == "float32" else {"rtol": 1e-12, "atol": 1e-13}
    np.testing.assert_allclose(out.data, expected.detach().numpy(), **tolerance)
    np.testing.assert_allclose(ours.grad, theirs.grad.numpy(), **tolerance)
