"""Differentiable batch normalisation."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn.autograd import Tensor, gradcheck
from numbacnn.functional.norm import batch_norm, batch_norm_relu

functions = pytest.mark.parametrize("function", [batch_norm, batch_norm_relu])


def tensors(shape, dtype="float64"):
    rng = np.random.default_rng(0)
    return [Tensor(rng.standard_normal(s).astype(dtype), requires_grad=True) for s in (shape, shape[1:2], shape[1:2])]


@functions
@pytest.mark.parametrize("shape", [(6, 3), (2, 3, 5), (2, 3, 4, 2), (2, 2, 3, 2, 2)], ids=str)
def test_gradcheck(function, shape):
    x, weight, bias = tensors(shape)
    mean, var = np.linspace(-1, 1, shape[1]), np.linspace(1, 2, shape[1])
    assert gradcheck(lambda *t: function(t[0], None, None, *t[1:], training=True), (x, weight, bias))
    assert gradcheck(lambda *t: function(t[0], mean, var, *t[1:], training=False), (x, weight, bias))
    assert gradcheck(lambda t: function(t, None, None, training=True), (x,))
    assert gradcheck(lambda t, b: function(t, mean, var, None, b), (x, bias))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("training", [True, False])
def test_agrees_with_torch(training, dtype):
    torch = pytest.importorskip("torch")
    x, weight, bias = tensors((4, 6, 5, 3), dtype)
    grad = np.random.default_rng(1).standard_normal(x.shape).astype(dtype)
    running = [np.zeros(6, dtype), np.ones(6, dtype)]
    theirs = [torch.tensor(t.data, requires_grad=True) for t in (x, weight, bias)]
    their_running = [torch.tensor(r) for r in running]

    out = batch_norm(x, *running, weight, bias, training, 0.3, 1e-3)
    out.backward(grad)
    expected = torch.nn.functional.batch_norm(theirs[0], *their_running, *theirs[1:], training, 0.3, 1e-3)
    expected.backward(torch.tensor(grad))

    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-10, "atol": 1e-11}
    np.testing.assert_allclose(out.data, expected.detach().numpy(), **tolerance)
    for a, b in zip(running, their_running, strict=True):
        np.testing.assert_allclose(a, b.numpy(), **tolerance)
    for ours, their in zip((x, weight, bias), theirs, strict=True):
        np.testing.assert_allclose(ours.grad, their.grad.numpy(), **tolerance)
