"""Differentiable losses."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn.autograd import Tensor, gradcheck, no_grad
from numbacnn.errors import OptionError
from numbacnn.functional.loss import cross_entropy, l1_loss, l2_penalty, mse_loss, smooth_l1_loss

reductions = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])


def normal(*shape, seed=0, dtype="float64"):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@reductions
@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4, 2)], ids=str)
def test_gradcheck_of_cross_entropy(shape, reduction):
    x = Tensor(normal(*shape), requires_grad=True)
    indices = np.random.default_rng(1).integers(0, shape[1], shape[:1] + shape[2:])
    indices.flat[0] = -100
    soft = np.exp(normal(*shape, seed=2))
    weight = np.exp(normal(shape[1], seed=3))
    for target in (indices, soft):
        for options in ({}, {"weight": weight}, {"label_smoothing": 0.2}, {"weight": weight, "label_smoothing": 0.2}):
            assert gradcheck(lambda t: cross_entropy(t, target, reduction=reduction, **options), (x,))  # noqa: B023
    p = Tensor(np.full(shape, 0.3) + 0.1 * np.tanh(normal(*shape)), requires_grad=True)
    for target in (indices, soft):
        options = {"weight": weight, "reduction": reduction, "from_probabilities": True}
        assert gradcheck(lambda t: cross_entropy(t, target, **options), (p,))  # noqa: B023


@reductions
@pytest.mark.parametrize("function", [mse_loss, l1_loss, smooth_l1_loss])
def test_gradcheck_of_differences(function, reduction):
    x, y = (Tensor(normal(3, 4, 5, seed=seed), requires_grad=True) for seed in (0, 1))
    assert gradcheck(lambda a, b: function(a, b, reduction), (x, y))
    assert gradcheck(lambda a: function(a, y.data, reduction), (x,))
    assert gradcheck(lambda b: function(x.data, b, reduction), (y,))


def test_a_second_walk_through_the_graph_gives_the_same_gradient():
    x = Tensor(normal(4, 5, dtype="float32"), requires_grad=True)
    loss = cross_entropy(x, np.array([0, 1, 2, 3])) * 3
    loss.backward(retain_graph=True)
    first, x.grad = x.grad, None
    loss.backward()
    np.testing.assert_array_equal(first, x.grad)


def test_no_gradient_is_computed_where_none_is_wanted():
    x = Tensor(normal(4, 5), requires_grad=True)
    with no_grad():
        assert not cross_entropy(x, np.arange(4)).requires_grad
    assert not mse_loss(x.data, x.data).requires_grad


def test_l2_penalty():
    theta, phi = (Tensor(normal(3, 4, seed=seed), requires_grad=True) for seed in (0, 1))
    penalty = l2_penalty([theta, phi], 0.25)
    assert penalty.item() == pytest.approx(0.25 * ((theta.data**2).sum() + (phi.data**2).sum()))
    penalty.backward()
    np.testing.assert_allclose(theta.grad, 0.5 * theta.data)
    np.testing.assert_allclose(phi.grad, 0.5 * phi.data)
    assert gradcheck(lambda t: l2_penalty(t, 0.25), (theta,))
    assert gradcheck(lambda a, b: l2_penalty(iter([a, b]), 0.25), (theta, phi))
    with pytest.raises(OptionError, match="strength must not be negative, got -1"):
        l2_penalty(theta, -1)
    with pytest.raises(OptionError, match="at least one parameter"):
        l2_penalty([], 1.0)


@reductions
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_agrees_with_torch(reduction, dtype):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x = normal(4, 6, 3, dtype=dtype)
    indices = np.random.default_rng(1).integers(0, 6, (4, 3))
    indices[0, 0] = -100
    soft = np.exp(normal(4, 6, 3, seed=2, dtype=dtype))
    weight = np.exp(normal(6, seed=3, dtype=dtype))
    y = normal(4, 6, 3, seed=4, dtype=dtype)
    cases = [
        (cross_entropy, functional.cross_entropy, target, {"label_smoothing": smoothing})
        for target in (indices, soft)
        for smoothing in (0.0, 0.3)
    ]
    cases += [
        (mse_loss, functional.mse_loss, y, {}),
        (l1_loss, functional.l1_loss, y, {}),
        (smooth_l1_loss, functional.smooth_l1_loss, y, {"beta": 0.5}),
    ]
    tolerance = {"rtol": 2e-5, "atol": 1e-6} if dtype == "float32" else {"rtol": 1e-10, "atol": 1e-12}
    for ours, theirs, target, options in cases:
        weights = {"weight": weight} if ours is cross_entropy else {}
        tensor, peer = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        out = ours(tensor, target, reduction=reduction, **options, **weights)
        out.backward(np.ones(out.shape, dtype))
        expected = theirs(
            peer,
            torch.tensor(target),
            reduction=reduction,
            **options,
            **{name: torch.tensor(value) for name, value in weights.items()},
        )
        expected.sum().backward()
        np.testing.assert_allclose(out.data, expected.detach().numpy(), **tolerance)
        np.testing.assert_allclose(tensor.grad, peer.grad.numpy(), **tolerance)
