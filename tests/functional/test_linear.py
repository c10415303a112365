"""The differentiable fully connected layer."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn.autograd import Tensor, gradcheck
from numbacnn.functional import linear


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5)], ids=str)
def test_gradcheck(shape):
    rng = np.random.default_rng(0)
    x, weight, bias = (Tensor(rng.standard_normal(s), requires_grad=True) for s in (shape, (4, 5), (4,)))
    assert gradcheck(linear, (x, weight, bias))
    assert gradcheck(linear, (x, weight))
    assert gradcheck(lambda w: linear(x.data, w), (weight,))


def test_agrees_with_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in ((6, 7), (4, 7), (4,))]
    grad = rng.standard_normal((6, 4)).astype(np.float32)
    ours = [Tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    out = linear(*ours)
    out.backward(grad)
    expected = torch.nn.functional.linear(*theirs)
    expected.backward(torch.tensor(grad))
    np.testing.assert_allclose(out.data, expected.detach().numpy(), rtol=1e-5, atol=1e-5)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-5, atol=1e-5)
