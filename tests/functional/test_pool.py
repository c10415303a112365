"""Differentiable pools: gradients, unbatched inputs, indices, agreement with torch."""

from __future__ import annotations

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import functional as F
from numbacnn.errors import DTypeError, ShapeError
from tests.cases import integers

RANKS = (1, 2, 3)
SIZES = {1: (9,), 2: (7, 8), 3: (5, 4, 6)}


def distinct(shape, seed=0):
    """Values no two of which are close, so that a small step changes no maximum."""
    rng = np.random.default_rng(seed)
    return rng.permutation(int(np.prod(shape))).reshape(shape) / 16.0


def pool(name, rank):
    return getattr(F, f"{name}{rank}d")


CALLS = {
    "max": lambda rank: lambda x: pool("max_pool", rank)(x, 3, 2, 1),
    "max dilated": lambda rank: lambda x: pool("max_pool", rank)(x, 2, 1, 0, 2, True),
    "avg": lambda rank: lambda x: pool("avg_pool", rank)(x, 3, 2, 1),
    "avg of input": lambda rank: lambda x: pool("avg_pool", rank)(x, 2, 1, 1, True, False),
    "avg divisor": lambda rank: lambda x: pool("avg_pool", rank)(x, 2, divisor_override=3),
    "lp": lambda rank: lambda x: pool("lp_pool", rank)(x + 1.0, 3, 2),
    "adaptive avg": lambda rank: lambda x: pool("adaptive_avg_pool", rank)(x, 3),
    "adaptive max": lambda rank: lambda x: pool("adaptive_max_pool", rank)(x, 3),
    "global": lambda rank: F.global_avg_pool,
    "global keepdims": lambda rank: lambda x: F.global_avg_pool(x, keepdims=True),
}


@pytest.mark.parametrize("channels", [3, 6])
@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("name", CALLS)
def test_gradients(name, rank, channels):
    assert nc.autograd.gradcheck(CALLS[name](rank), distinct((2, channels, *SIZES[rank])))


@pytest.mark.parametrize("rank", RANKS)
def test_gradient_of_unpooling(rank):
    shape = (2, 3, *SIZES[rank])
    y, indices = pool("max_pool", rank)(distinct(shape), 2, return_indices=True)

    def call(x):
        return pool("max_unpool", rank)(x, indices, 2, output_size=shape)

    assert nc.autograd.gradcheck(call, y.data)
    assert call(y).shape == shape


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("name", [name for name in CALLS if not name.startswith("global")])
def test_unbatched(name, rank):
    call = CALLS[name](rank)
    x = distinct((3, *SIZES[rank])).astype(np.float32)
    single, batch = nc.Tensor(x, requires_grad=True), nc.Tensor(x[None], requires_grad=True)
    y, expected = call(single), call(batch)
    assert y.shape == expected.shape[1:]
    assert (y.data == expected.data[0]).all()
    y.sum().backward()
    expected.sum().backward()
    assert (single.grad == batch.grad[0]).all()


@pytest.mark.parametrize("rank", RANKS)
def test_indices_lead_to_the_values(rank):
    x = integers((2, 3, *SIZES[rank]), "float32", 0)
    for value, indices in (
        pool("max_pool", rank)(x, 2, return_indices=True),
        pool("adaptive_max_pool", rank)(x, 3, return_indices=True),
    ):
        assert indices.dtype == np.int64
        flat = np.take_along_axis(x.reshape(2, 3, -1), indices.reshape(2, 3, -1), -1)
        assert (flat.reshape(value.shape) == value.data).all()
    _, indices = pool("max_pool", rank)(x[0], 2, return_indices=True)
    assert indices.ndim == rank + 1


def test_integers_have_a_maximum_but_no_gradient():
    y = F.max_pool2d(np.arange(16, dtype=np.int16).reshape(1, 1, 4, 4), 2)
    assert y.dtype == np.int16
    assert y.tolist() == [[[[5, 7], [13, 15]]]]
    assert not y.requires_grad
    with pytest.raises(DTypeError, match="x must be float32 or float64"):
        F.avg_pool2d(np.arange(16).reshape(1, 1, 4, 4), 2)


def test_offsets_are_kept_only_for_a_gradient():
    x = nc.Tensor(np.ones((1, 4, 8, 8), np.float32), requires_grad=True)
    with nc.no_grad():
        assert not F.max_pool2d(x, 2).requires_grad
    y = F.max_pool2d(x, 2)
    y.sum().backward()
    assert (x.grad[..., ::2, ::2] == 1).all()
    assert x.grad.sum() == y.data.size


@pytest.mark.parametrize("rank", RANKS)
def test_wrong_rank(rank):
    x = np.zeros((1,) * (rank + 3), np.float32)
    for name, arguments in (
        ("max_pool", (1,)),
        ("avg_pool", (1,)),
        ("lp_pool", (2, 1)),
        ("adaptive_avg_pool", (1,)),
        ("adaptive_max_pool", (1,)),
    ):
        with pytest.raises(ShapeError, match=rf"{name}{rank}d: input must have shape \(batch, channels, "):
            pool(name, rank)(x, *arguments)
    fitting = np.zeros((1,) * (rank + 2), np.float32)
    with pytest.raises(ShapeError, match=rf"max_unpool{rank}d: indices must have shape"):
        pool("max_unpool", rank)(fitting, x.astype(np.int64), 1)


@pytest.mark.parametrize("channels", [2, 9])
@pytest.mark.parametrize("rank", RANKS)
def test_against_torch(rank, channels):
    torch = pytest.importorskip("torch")
    T = torch.nn.functional
    x = np.abs(distinct((2, channels, *SIZES[rank]))) + 1
    for name, arguments in (
        ("max_pool", (3, 2, 1, 1, True)),
        ("avg_pool", (3, 2, 1, True, False)),
        ("lp_pool", (3.0, 2)),
        ("lp_pool", (2.0, 3, 2, True)),
        ("adaptive_avg_pool", (4,)),
        ("adaptive_max_pool", (3,)),
    ):
        if name == "lp_pool" and rank == 3 and not hasattr(T, "lp_pool3d"):
            continue
        ours, theirs = nc.Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        y, expected = pool(name, rank)(ours, *arguments), getattr(T, f"{name}{rank}d")(theirs, *arguments)
        np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=1e-12)
        grad = integers(y.shape, "float64", 1)
        y.backward(grad)
        expected.backward(torch.tensor(grad))
        np.testing.assert_allclose(ours.grad, theirs.grad.numpy(), rtol=1e-11, atol=1e-11)
