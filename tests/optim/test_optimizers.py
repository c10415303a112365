"""SGD, Adam and AdamW: against the formulas in float64, against PyTorch, and as objects."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest

from numbacnn import optim
from numbacnn.autograd import Parameter, Tensor
from numbacnn.errors import GradientError, OptionError, StateDictError
from numbacnn.optim import SGD, Adam, AdamW
from tests.bits import assert_same_bits

SHAPES = [(3, 4), (), (7,), (2, 3, 5, 5), (40_000,), (0, 3)]
DTYPES = ("float32", "float64")

CASES = {
    "sgd": (SGD, {"lr": 0.1}),
    "sgd decay": (SGD, {"lr": 0.1, "weight_decay": 0.05}),
    "sgd momentum": (SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05}),
    "sgd dampening": (SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    "sgd nesterov": (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05}),
    "sgd maximize": (SGD, {"lr": 0.1, "maximize": True, "weight_decay": 0.05}),
    "sgd momentum maximize": (SGD, {"lr": 0.1, "momentum": 0.5, "maximize": True, "weight_decay": 0.05}),
    "sgd nesterov maximize": (
        SGD,
        {"lr": 0.1, "momentum": 0.5, "nesterov": True, "maximize": True, "weight_decay": 0.05},
    ),
    "adam": (Adam, {"lr": 0.05}),
    "adam options": (Adam, {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    "adam amsgrad": (Adam, {"lr": 0.05, "betas": (0.8, 0.9), "amsgrad": True}),
    "adam maximize": (Adam, {"lr": 0.05, "maximize": True, "weight_decay": 0.1}),
    "adam amsgrad maximize": (Adam, {"lr": 0.05, "amsgrad": True, "maximize": True, "weight_decay": 0.1}),
    "adamw": (AdamW, {"lr": 0.05}),
    "adamw amsgrad": (AdamW, {"lr": 0.05, "weight_decay": 0.3, "amsgrad": True}),
}
cases = pytest.mark.parametrize("name", CASES)


def reference(kind, options, p, gradients):
    """The parameter after one step per gradient, from the textbook, in float64."""
    p = p.astype(np.float64)
    o = {"momentum": 0, "dampening": 0, "nesterov": False, "weight_decay": 1e-2 if kind is AdamW else 0}
    o |= {"betas": (0.9, 0.999), "eps": 1e-8, "amsgrad": False, "maximize": False} | options
    v = m = top = np.zeros_like(p)
    for t, g in enumerate(gradients, 1):
        g = (-1 if o["maximize"] else 1) * g.astype(np.float64)
        if kind is AdamW:
            p = p - o["lr"] * o["weight_decay"] * p
        else:
            g = g + o["weight_decay"] * p
        if kind is SGD:
            v = g if t == 1 else o["momentum"] * v + (1 - o["dampening"]) * g
            p = p - o["lr"] * (g + o["momentum"] * v if o["nesterov"] else v if o["momentum"] else g)
            continue
        b1, b2 = o["betas"]
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        top = np.maximum(top, v)
        root = np.sqrt((top if o["amsgrad"] else v) / (1 - b2**t))
        p = p - o["lr"] * (m / (1 - b1**t)) / (root + o["eps"])
    return p


def problem(dtype, steps=5):
    rng = np.random.default_rng(0)
    tensors = [Parameter(rng.standard_normal(shape).astype(dtype)) for shape in SHAPES]
    gradients = [[rng.standard_normal(shape).astype(dtype) for shape in SHAPES] for _ in range(steps)]
    return tensors, gradients


def run(optimizer, tensors, gradients):
    for step in gradients:
        for p, g in zip(tensors, step, strict=True):
            p.grad = g.copy()
        optimizer.step()


@cases
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_formulas(name, dtype):
    kind, options = CASES[name]
    tensors, gradients = problem(dtype)
    start = [p.data.copy() for p in tensors]
    run(kind(tensors, **options), tensors, gradients)
    tolerance = {"rtol": 1e-5, "atol": 2e-6} if dtype == "float32" else {"rtol": 1e-12, "atol": 1e-13}
    for p, before, *own in zip(tensors, start, *gradients, strict=True):
        assert p.data.dtype == dtype
        np.testing.assert_allclose(p.data, reference(kind, options, before, own), **tolerance)


@cases
@pytest.mark.parametrize("dtype", DTYPES)
def test_agrees_with_torch(name, dtype):
    torch = pytest.importorskip("torch")
    kind, options = CASES[name]
    tensors, gradients = problem(dtype)
    theirs = [torch.tensor(p.data.copy(), requires_grad=True) for p in tensors]
    run(kind(tensors, **options), tensors, gradients)
    peer = getattr(torch.optim, kind.__name__)(theirs, **options)
    for step in gradients:
        for p, g in zip(theirs, step, strict=True):
            p.grad = torch.tensor(g)
        peer.step()
    tolerance = {"rtol": 2e-5, "atol": 2e-6} if dtype == "float32" else {"rtol": 1e-11, "atol": 1e-12}
    for a, b in zip(tensors, theirs, strict=True):
        np.testing.assert_allclose(a.data, b.detach().numpy(), **tolerance)


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
def test_defaults_are_torchs(kind):
    torch = pytest.importorskip("torch")
    ours = kind([Parameter(np.ones(1))]).defaults
    theirs = getattr(torch.optim, kind.__name__)([torch.ones(1, requires_grad=True)]).defaults
    assert {k: v for k, v in theirs.items() if k in ours} == ours


@cases
def test_same_bits_on_any_number_of_threads(name):
    kind, options = CASES[name]

    def compute():
        tensors, gradients = problem("float32", steps=2)
        run(kind(tensors, **options), tensors, gradients)
        return tuple(p.data for p in tensors)

    assert_same_bits(compute)


@cases
def test_any_memory(name):
    """Tensors and gradients that are views, of mixed dtypes, give what contiguous ones give."""
    kind, options = CASES[name]
    rng = np.random.default_rng(1)
    plain = [Tensor(rng.standard_normal((4, 6)).astype(d), requires_grad=True) for d in DTYPES]
    tables = [np.zeros((6, 8), d) for d in DTYPES]
    views = []
    for table, p in zip(tables, plain, strict=True):
        table[:, ::2] = p.data.T
        views.append(Tensor(table[:, ::2].T, requires_grad=True))
    gradients = [[rng.standard_normal((4, 6)).astype(d) for d in DTYPES] for _ in range(3)]
    run(kind(plain, **options), plain, gradients)
    run(kind(views, **options), views, [[np.asfortranarray(g) for g in step] for step in gradients])
    for p, table in zip(plain, tables, strict=True):
        np.testing.assert_array_equal(table[:, ::2].T, p.data)
        assert (table[:, 1::2] == 0).all()


@cases
def test_tensors_without_a_gradient_are_left_alone(name):
    kind, options = CASES[name]
    a, b = Parameter(np.ones(3)), Parameter(np.ones(3))
    optimizer = kind([a, b], **options)
    a.grad = np.ones(3)
    optimizer.step()
    assert (a.data != 1).all()
    assert (b.data == 1).all()
    assert b not in optimizer.state
    b.grad = np.ones(3)
    optimizer.step()
    if kind is not SGD:
        assert optimizer.state[a]["step"] == 2
        assert optimizer.state[b]["step"] == 1


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
def test_groups_have_their_own_options(kind):
    a, b = Parameter(np.ones(3)), Parameter(np.ones(3))
    optimizer = kind([{"params": [a]}, {"params": b, "lr": 0.0}], lr=0.1)
    a.grad = b.grad = np.ones(3)
    optimizer.step()
    assert (a.data < 1).all()
    assert (b.data == 1).all()
    optimizer.param_groups[1]["lr"] = 0.5  # as a scheduler does
    optimizer.step()
    assert (b.data < a.data).all()


@cases
def test_state_dict_continues_exactly(name):
    kind, options = CASES[name]
    tensors, gradients = problem("float32", steps=6)
    optimizer = kind(tensors, **options)
    run(optimizer, tensors, gradients[:3])
    saved = pickle.loads(pickle.dumps(optimizer.state_dict()))
    copies = [Parameter(p.data.copy()) for p in tensors]
    other = kind(copies, lr=77.0)
    other.load_state_dict(saved)
    assert other.param_groups[0]["lr"] == options["lr"]
    run(optimizer, tensors, gradients[3:])
    run(other, copies, gradients[3:])
    for a, b in zip(tensors, copies, strict=True):
        np.testing.assert_array_equal(a.data, b.data)


def test_state_dict_has_torchs_structure():
    torch = pytest.importorskip("torch")
    tensors, gradients = problem("float32", steps=1)
    optimizer = Adam([{"params": tensors[:2]}, {"params": tensors[2:], "lr": 0.5}])
    run(optimizer, tensors, gradients)
    theirs = [torch.tensor(p.data, requires_grad=True) for p in tensors]
    peer = torch.optim.Adam([{"params": theirs[:2]}, {"params": theirs[2:], "lr": 0.5}])
    for p in theirs:
        p.grad = torch.ones_like(p)
    peer.step()
    ours, expected = optimizer.state_dict(), peer.state_dict()
    assert ours.keys() == expected.keys()
    assert ours["state"].keys() == expected["state"].keys()
    assert ours["state"][0].keys() == expected["state"][0].keys()
    assert [g["params"] for g in ours["param_groups"]] == [g["params"] for g in expected["param_groups"]]
    assert ours["param_groups"][0].keys() <= expected["param_groups"][0].keys()


def test_a_state_dict_that_does_not_fit():
    p, q = Parameter(np.ones((2, 3))), Parameter(np.ones(4))
    optimizer = Adam([p, q])
    p.grad, q.grad = np.ones((2, 3)), np.ones(4)
    optimizer.step()
    state = optimizer.state_dict()
    with pytest.raises(StateDictError, match=r"groups of \[2\] parameters, the optimiser has groups of \[1\]"):
        Adam([p]).load_state_dict(state)
    other = Adam([q, p])
    with pytest.raises(StateDictError, match=r"exp_avg has shape \(2, 3\).*its parameter has shape \(4,\)"):
        other.load_state_dict(state)
    assert other.state == {}
    with pytest.raises(StateDictError, match=r'the keys "state" and "param_groups", got the keys \[\'state\'\]'):
        other.load_state_dict({"state": {}})
    with pytest.raises(StateDictError, match="another kind of optimiser: SGD has the options dampening, .*momentum"):
        SGD([p, q]).load_state_dict(state)
    broken = copy.deepcopy(state)
    broken["state"][5] = {}
    with pytest.raises(StateDictError, match="state of parameter 5, which is in none of its groups"):
        optimizer.load_state_dict(broken)


def test_zero_grad():
    p = Parameter(np.ones(3))
    optimizer = SGD([p], lr=0.1)
    (p * 2).sum().backward()
    optimizer.zero_grad(set_to_none=False)
    np.testing.assert_array_equal(p.grad, 0)
    optimizer.zero_grad()
    assert p.grad is None


def test_closure():
    p = Parameter(np.array([3.0]))
    optimizer = SGD([p], lr=0.25)

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 9.0
    assert p.data[0] == 1.5


def test_backward_after_a_step_is_refused():
    p = Parameter(np.array([3.0]))
    loss = (p * p).sum()
    p.grad = np.ones(1)
    SGD([p], lr=0.1).step()
    with pytest.raises(GradientError, match="was changed after the forward pass"):
        loss.backward()


def test_nan_and_infinity_reach_the_parameter():
    for kind, options in CASES.values():
        p = Parameter(np.ones(3))
        p.grad = np.array([np.nan, np.inf, 1.0])
        kind([p], **options).step()
        assert np.isnan(p.data[0])
        assert not np.isfinite(p.data[1])
        assert np.isfinite(p.data[2])


def test_refused_arguments():
    p = Parameter(np.ones(3))
    with pytest.raises(OptionError, match="lr must be a number that is not negative, got -0.1"):
        SGD([p], lr=-0.1)
    with pytest.raises(OptionError, match="momentum must be a number that is not negative, got -1"):
        SGD([p], momentum=-1)
    with pytest.raises(OptionError, match="weight_decay must be"):
        AdamW([p], weight_decay=math.nan)
    with pytest.raises(OptionError, match="needs momentum > 0 and dampening = 0, got momentum=0.0 and dampening=0"):
        SGD([p], nesterov=True)
    with pytest.raises(OptionError, match=r"betas must be two numbers from 0 to below 1, got \(0.9, 1.0\)"):
        Adam([p], betas=(0.9, 1.0))
    with pytest.raises(OptionError, match="eps must be"):
        Adam([p], eps=-1)
    with pytest.raises(OptionError, match="got no parameters; model.parameters.. is used up by one pass"):
        Adam([])
    with pytest.raises(OptionError, match="iterable of tensors or of groups, got a Parameter"):
        Adam(p)
    with pytest.raises(OptionError, match="updates tensors, got a ndarray"):
        Adam([np.ones(3)])
    with pytest.raises(OptionError, match=r"made by the user; one of shape \(3,\) was computed"):
        Adam([p * 2])
    with pytest.raises(OptionError, match=r"shape \(3,\) appears twice"):
        Adam([p, p])
    with pytest.raises(OptionError, match=r"unknown option speed; known: lr, betas"):
        Adam([{"params": [p], "speed": 1}])
    with pytest.raises(OptionError, match='must be a dict with the key "params", got the keys'):
        Adam([p]).add_param_group({"lr": 1})


def test_a_read_only_tensor_is_refused():
    data = np.ones(3)
    data.setflags(write=False)
    p = Tensor(data, requires_grad=True)
    p.grad = np.ones(3)
    with pytest.raises(OptionError, match="read-only and cannot be updated"):
        SGD([p], lr=0.1).step()
    assert (data == 1).all()


def test_shown_and_exported():
    assert set(optim.__all__) == {"SGD", "Adam", "AdamW", "Optimizer"}
    text = repr(SGD([Parameter(np.ones(1))], lr=0.5))
    assert text.startswith("SGD (")
    assert "lr: 0.5" in text
