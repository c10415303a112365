"""Sequential, ModuleList, Identity."""

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn


class Add(nn.Module):
    def __init__(self, amount):
        super().__init__()
        self.amount = amount

    def forward(self, input):
        return input + self.amount

    def extra_repr(self):
        return str(self.amount)


def amounts(modules):
    return [module.amount for module in modules]


def test_sequential_applies_in_order():
    assert nn.Sequential(Add("b"), Add("c"))("a") == "abc"
    assert nn.Sequential()("a") == "a"


def test_sequential_of_a_mapping():
    net = nn.Sequential({"one": Add("b"), "two": Add("c")})
    assert net("a") == "abc"
    assert [name for name, _ in net.named_children()] == ["one", "two"]
    assert net.one.amount == "b"
    net.append(Add("d"))
    assert [name for name, _ in net.named_children()] == ["one", "two", "2"]


@pytest.mark.parametrize("kind", [lambda *modules: nn.Sequential(*modules), lambda *modules: nn.ModuleList(modules)])
def test_as_a_list(kind):
    modules = kind(*map(Add, range(4)))
    assert len(modules) == 4
    assert amounts(modules) == [0, 1, 2, 3]
    assert modules[1].amount == 1
    assert modules[-1].amount == 3
    assert amounts(modules[1:3]) == [1, 2]
    assert type(modules[1:]) is type(modules)
    modules[1] = Add(10)
    modules.append(Add(4)).extend([Add(5)])
    modules.insert(0, Add(-1))
    assert amounts(modules) == [-1, 0, 10, 2, 3, 4, 5]
    del modules[2]
    del modules[-2:]
    assert amounts(modules) == [-1, 0, 2, 3]
    assert [name for name, _ in modules.named_children()] == ["0", "1", "2", "3"]
    with pytest.raises(IndexError):
        modules[4]


def test_only_modules():
    with pytest.raises(TypeError, match="Sequential holds modules, got function"):
        nn.Sequential(lambda x: x)
    for name in ("", "a.b", "training", "forward"):
        with pytest.raises(ValueError, match="cannot be the name of a module"):
            nn.Sequential({name: Add(1)})


def test_module_list_has_no_forward():
    with pytest.raises(NotImplementedError, match="ModuleList does not define forward"):
        nn.ModuleList()(1)


def test_identity_takes_any_arguments():
    x = nc.Tensor([1.0])
    assert nn.Identity(3, anything=True)(x) is x


def test_a_net_of_two_thousand_layers():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(np.ones(1, np.float32))

        def forward(self, input):
            return input * self.scale + 0.0

    net = nn.Sequential(*(Block() for _ in range(2000)))
    x = nc.Tensor([1.0], requires_grad=True)
    net(x).sum().backward()
    assert x.grad == 1.0
    assert all(parameter.grad == 1.0 for parameter in net.parameters())
    assert len(net.state_dict()) == 2000


@pytest.mark.parametrize("training", [True, False])
def test_a_rectifier_behind_batch_norm_changes_no_bit(training):
    """In one pass or in two: values, gradients, running statistics."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((3, 5, 4, 4)).astype(np.float32)
    gradient = rng.standard_normal(values.shape).astype(np.float32)
    results = []
    for together in (True, False):
        norm, relu = nc.nn.BatchNorm2d(5), nc.nn.ReLU()
        norm.weight.data[...] = np.linspace(-1, 2, 5)
        norm.bias.data[...] = np.linspace(0.5, -0.5, 5)
        net = nc.nn.Sequential(norm, relu).train(training)
        x = nc.Tensor(values, requires_grad=True)
        out = net(x) if together else relu(norm(x))
        out.backward(gradient)
        results.append([out.data, x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var])
        assert int(norm.num_batches_tracked) == training
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_subclass_that_computes_otherwise_is_asked():
    class Shifted(nc.nn.BatchNorm2d):
        def forward(self, input):
            return super().forward(input) - 10.0

    x = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)
    assert nc.nn.Sequential(Shifted(3), nc.nn.ReLU())(x).data.max() == 0


@pytest.mark.parametrize("watched", [0, 1])
def test_hooks_see_what_lies_between(watched):
    seen = []
    net = nc.nn.Sequential(nc.nn.BatchNorm2d(3), nc.nn.ReLU())
    with net[watched].register_forward_hook(lambda module, args, output: seen.append(output.data.min())):
        net(np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32))
    assert len(seen) == 1
    assert (seen[0] < 0) == (watched == 0)
