"""Shapes, order and selection against NumPy; gradients by finite differences."""

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import functional as F
from numbacnn.autograd import gradcheck
from numbacnn.errors import DTypeError, OptionError, ShapeError

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 4))
# The same shape with channels-last memory, with negative strides, and read-only.
LAYOUTS = [
    X,
    np.moveaxis(np.ascontiguousarray(np.moveaxis(X, 1, -1)), -1, 1),
    X[::-1, :, ::-1],
    np.broadcast_to(X[:1], X.shape),
]


@pytest.mark.parametrize("x", LAYOUTS)
@pytest.mark.parametrize(
    ("ours", "numpys"),
    [
        (lambda x: x.reshape(6, 4), lambda x: x.reshape(6, 4)),
        (lambda x: x.reshape((-1, 2)), lambda x: x.reshape(-1, 2)),
        (lambda x: x.flatten(), lambda x: x.reshape(-1)),
        (lambda x: x.flatten(1), lambda x: x.reshape(2, 12)),
        (lambda x: x.flatten(0, 1), lambda x: x.reshape(6, 4)),
        (lambda x: x.permute(2, 0, 1), lambda x: x.transpose(2, 0, 1)),
        (lambda x: x.permute((-1, 1, 0)), lambda x: x.transpose(2, 1, 0)),
        (lambda x: x.T, lambda x: x.T),
        (lambda x: x.transpose(0, -1), lambda x: x.swapaxes(0, 2)),
        (lambda x: x.unsqueeze(1), lambda x: x[:, None]),
        (lambda x: x.unsqueeze(-1), lambda x: x[..., None]),
        (lambda x: x[:1].squeeze(), lambda x: x[0]),
        (lambda x: x[:, :1].squeeze(1), lambda x: x[:, 0]),
        (lambda x: x.squeeze(1), lambda x: x),
        (lambda x: x[:1, :, :1].squeeze((0, -1)), lambda x: x[0, :, 0]),
        (lambda x: F.broadcast_to(x, (5, 2, 3, 4)), lambda x: np.broadcast_to(x, (5, 2, 3, 4))),
        (lambda x: F.broadcast_to(x[:, :1], (2, 3, 4)), lambda x: np.broadcast_to(x[:, :1], (2, 3, 4))),
        (lambda x: F.concatenate([x, x * 2], 1), lambda x: np.concatenate([x, x * 2], 1)),
        (lambda x: F.concatenate([x[:, :1], x, x[:, 1:]], -2), lambda x: np.concatenate([x[:, :1], x, x[:, 1:]], 1)),
        (lambda x: F.stack([x, x * 2], 1), lambda x: np.stack([x, x * 2], 1)),
        (lambda x: F.stack([x, x * 2], -1), lambda x: np.stack([x, x * 2], -1)),
        (lambda x: F.split(x, 3, axis=2)[1], lambda x: x[:, :, 3:]),
        (lambda x: F.split(x, [1, 2], 1)[1], lambda x: x[:, 1:]),
    ],
)
def test_against_numpy(ours, numpys, x):
    result, expected = ours(nc.Tensor(x)), numpys(x)
    assert result.shape == expected.shape
    np.testing.assert_array_equal(result.data, expected)
    assert gradcheck(ours, x)


INDICES = [
    0,
    -1,
    slice(1),
    slice(None, None, -2),
    (slice(None), 1),
    (..., 2),
    (0, ..., slice(1, 3)),
    None,
    (slice(None), None, [0, 0, 2]),
    [1, 0, 1],
    np.array([[0, 1], [1, 1]]),
    (np.array([0, 1, 0]), np.array([2, 2, 2])),
    (slice(None), np.array([True, False, True])),
    X > 0,
    ([0, 1], slice(None), [3, 3]),
    (1, np.array(2)),
    [],
    (0, 1, 2),
]


@pytest.mark.parametrize("index", INDICES, ids=range(len(INDICES)))
@pytest.mark.parametrize("x", LAYOUTS[:2])
def test_getitem(x, index):
    expected = x[index]
    np.testing.assert_array_equal(nc.Tensor(x)[index].data, expected)
    assert gradcheck(lambda x: x[index], x)


def test_getitem_by_tensors():
    x = nc.Tensor(X)
    np.testing.assert_array_equal(x[nc.Tensor([1, 1])].data, X[[1, 1]])
    np.testing.assert_array_equal(x[:, nc.Tensor([True, False, True])].data, X[:, [0, 2]])
    np.testing.assert_array_equal(x[x > 0].data, X[X > 0])
    with pytest.raises(IndexError, match="out of bounds"):
        x[5]


def test_gradients_of_indexing_keep_the_memory_order():
    x = nc.Tensor(LAYOUTS[1], requires_grad=True)
    y = x * 1
    y.retain_grad()
    seen = []
    hook = nc.autograd.apply("see", (y,), y.data, lambda grad, needs: (seen.append(grad), grad)[1:])
    hook[:, 1:].sum().backward()
    assert seen[0].strides == LAYOUTS[1].strides


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.reshape(X, 5, 5), ShapeError, r"24 elements of shape \(2, 3, 4\) do not fit into shape \(5, 5\)"),
        (lambda: F.flatten(X, 2, 1), OptionError, "start_dim=2 is after end_dim=1"),
        (lambda: F.flatten(X, 3), OptionError, "start_dim must be below 3"),
        (lambda: F.permute(X, 0, 1), OptionError, "not a permutation of the 3 axes"),
        (lambda: F.permute(X, 0, 1, 1), OptionError, "not a permutation"),
        (lambda: F.transpose(X, 0, 3), OptionError, "axis1 must be below 3"),
        (lambda: F.squeeze(X, 5), OptionError, "axis must be below 3"),
        (lambda: F.unsqueeze(X, -5), OptionError, "axis must be at least -4"),
        (lambda: F.broadcast_to(X, (2, 3, 5)), ShapeError, r"\(2, 3, 4\) does not broadcast to \(2, 3, 5\)"),
        (lambda: F.concatenate([]), ShapeError, "at least one"),
        (lambda: F.concatenate([X, X[0]]), ShapeError, "differ in another axis"),
        (lambda: F.concatenate([X, X[:, :1]], 0), ShapeError, "differ in another axis"),
        (lambda: F.concatenate([X, X.astype(np.float32)]), DTypeError, r"tensors\[1\] is float32"),
        (lambda: F.stack([X, X[:1]]), ShapeError, "differ"),
        (lambda: F.split(X, [1, 1], 1), ShapeError, r"\[1, 1\] do not add up to the 3 elements"),
        (lambda: F.split(X, 0), OptionError, "at least 1"),
        (lambda: F.pad(X, (1, 2, 3)), OptionError, "pairs"),
        (lambda: F.pad(X, [(1, 1)]), OptionError, "3 such pairs"),
        (lambda: F.pad(X, (-1, 0)), OptionError, "at least 0"),
        (lambda: F.pad(X, (1, 1), mode="wrap"), OptionError, "mode must be one of"),
        (lambda: F.pad(X[:0], (1, 1, 0, 0, 1, 1), mode="reflect"), ShapeError, "nothing to fill"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


NUMPY_MODE = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
WIDTHS = [((0, 0), (1, 0), (0, 2)), ((1, 1), (2, 0), (3, 3)), ((5, 4), (0, 0), (0, 9)), ((0, 0), (0, 0), (0, 0))]


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize("mode", NUMPY_MODE)
@pytest.mark.parametrize("x", LAYOUTS[:2])
def test_pad(x, mode, widths):
    expected = np.pad(x, widths, NUMPY_MODE[mode])
    result = F.pad(x, widths, mode)
    np.testing.assert_array_equal(result.data, expected)
    assert result.data.strides == np.empty_like(x, shape=expected.shape).strides
    assert gradcheck(lambda x: F.pad(x, widths, mode), x)


def test_pad_forms():
    flat = F.pad(X, (1, 2, 3, 4), value=7.0)
    np.testing.assert_array_equal(flat.data, np.pad(X, ((0, 0), (3, 4), (1, 2)), constant_values=7.0))
    assert F.pad([5.0], (2, 2), "reflect").tolist() == [5.0] * 5


def test_pad_against_torch():
    torch = pytest.importorskip("torch")
    x = RNG.standard_normal((2, 3, 4, 5))
    for mode in NUMPY_MODE:
        expected = torch.nn.functional.pad(torch.from_numpy(x), (1, 2, 3, 0), mode=mode).numpy()
        np.testing.assert_array_equal(F.pad(x, (1, 2, 3, 0), mode).data, expected)
