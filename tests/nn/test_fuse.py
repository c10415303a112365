"""Fused nets compute what the nets did in evaluation mode, with fewer layers, and leave them alone."""

import copy
import pickle
import re

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn
from numbacnn.errors import ShapeError

RNG = np.random.default_rng(0)
SIZES = {1: (11,), 2: (9, 8), 3: (5, 6, 7)}
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}


def norm(rank, channels, dtype=np.float32, affine=True, **options):
    """A batch normalisation that has seen data and learned, with values far from the initial ones."""
    layer = getattr(nn, f"BatchNorm{rank}d")(channels, affine=affine, dtype=dtype, **options)
    if affine:
        layer.weight.data[...] = RNG.uniform(-1.5, 1.5, channels)
        layer.bias.data[...] = RNG.normal(size=channels)
    if layer.running_mean is not None:
        layer.running_mean[...] = RNG.normal(size=channels)
        layer.running_var[...] = RNG.uniform(0.3, 3, channels)
    return layer


def images(rank, channels, dtype=np.float32):
    return RNG.standard_normal((2, channels, *SIZES[rank])).astype(dtype)


def assert_agrees(net, x, *, gone):
    """Fusing removes so many modules and changes no output."""
    before = {key: array.copy() for key, array in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    fused = nn.fuse(net)
    assert len(list(net.modules())) - len(list(fused.modules())) == gone
    assert not any(module.training for module in fused.modules())
    expected = copy.deepcopy(net).eval()(x).data
    actual = fused(x).data
    assert actual.dtype == expected.dtype
    bound = TOLERANCE[x.dtype.type] * np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)
    assert [module.training for module in net.modules()] == modes
    assert list(net.state_dict()) == list(before)
    for key, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[key])
    return fused


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_folded_into_any_convolution(rank, kind, groups, bias, dtype):
    conv = getattr(nn, f"{kind}{rank}d")(4, 12, 3, stride=2, padding=1, groups=groups, bias=bias, dtype=dtype)
    net = nn.Sequential(conv, norm(rank, 12, dtype), nn.Sigmoid())
    fused = assert_agrees(net, images(rank, 4, dtype), gone=1)
    assert [type(layer) for layer in fused] == [type(conv), nn.Sigmoid]
    assert fused[0].weight.dtype == fused[0].bias.dtype == dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_without_affine_and_with_another_eps(rank, dtype):
    conv = getattr(nn, f"Conv{rank}d")(3, 5, 2, dtype=dtype)
    net = nn.Sequential(conv, norm(rank, 5, dtype, affine=False, eps=0.1))
    fused = assert_agrees(net, images(rank, 3, dtype), gone=1)
    assert len(fused) == 1


def test_the_values():
    conv = nn.Conv1d(1, 2, 1)
    conv.weight.data[...] = np.reshape([3, 5], (2, 1, 1))
    conv.bias.data[...] = [1, 2]
    layer = nn.BatchNorm1d(2, eps=1.0)
    layer.running_mean[...] = [2, -1]
    layer.running_var[...] = [3, 15]
    layer.weight.data[...] = [4, 8]
    layer.bias.data[...] = [10, 20]
    fused = nn.fuse(nn.Sequential(conv, layer))
    np.testing.assert_array_equal(fused[0].weight.data.ravel(), [6, 10])
    np.testing.assert_array_equal(fused[0].bias.data, [8, 26])


def test_a_sum_of_large_terms_keeps_its_digits():
    conv = nn.Conv1d(1, 1, 1)
    conv.bias.data[...] = 1.0
    layer = nn.BatchNorm1d(1, eps=0.0)
    layer.running_mean[...] = 1e8  # to float32, 1 - 1e8 is -1e8
    layer.bias.data[...] = 1e8
    assert nn.fuse(nn.Sequential(conv, layer))[0].bias.data == 1.0


def test_two_normalisations_in_a_row():
    assert_agrees(nn.Sequential(nn.Conv2d(3, 4, 3), norm(2, 4), norm(2, 4)), images(2, 3), gone=2)


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.body = nn.Sequential(
            nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), norm(2, channels), nn.Tanh()),
            nn.Conv2d(channels, channels, 3, padding=1),
            norm(2, channels),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(channels, channels, 1), norm(2, channels))

    def forward(self, input):
        return self.body(input) + self.shortcut(input)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("rectifier", [nn.ReLU, nn.ReLU6])
def test_rectifiers(rectifier, rank):
    conv = getattr(nn, f"Conv{rank}d")
    net = nn.Sequential(
        conv(3, 8, 3), norm(rank, 8), rectifier(), conv(8, 4, 1), rectifier(inplace=True), conv(4, 4, 1), nn.Sigmoid()
    )
    fused = assert_agrees(net, 9 * images(rank, 3), gone=3)
    assert [layer.activation for layer in list(fused)[:3]] == [rectifier.__name__.lower()] * 2 + [None]


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_rectifiers_behind_transposed_convolutions(rank):
    conv = getattr(nn, f"ConvTranspose{rank}d")
    net = nn.Sequential(conv(3, 8, 3, 2), norm(rank, 8), nn.ReLU(), conv(8, 4, 1), nn.ReLU6(), nn.ReLU())
    fused = assert_agrees(net, 9 * images(rank, 3), gone=3)
    assert [layer.activation for layer in list(fused)[:2]] == ["relu", "relu6"]


def test_what_follows_a_rectifier_stays():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), norm(2, 8), nn.ReLU(), nn.ReLU6())
    assert_agrees(net, images(2, 3), gone=1)


def test_nested_and_residual():
    net = nn.Sequential(
        nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), norm(2, 4)), nn.Tanh()),
        Residual(4),
        nn.ModuleList([nn.Sequential(nn.Conv2d(4, 4, 1), norm(2, 4))])[0],
        nn.Flatten(),
    )
    fused = assert_agrees(net, images(2, 3), gone=5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())


@pytest.mark.parametrize("training", [True, False])
def test_a_net_in_either_mode(training):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), norm(2, 4), nn.Dropout(0.5)).train(training)
    assert_agrees(net, images(2, 3), gone=1)


def test_positions_stay_positions_and_names_stay():
    layers = nn.Conv2d(3, 4, 3), norm(2, 4), nn.Tanh(), nn.Conv2d(4, 4, 3), norm(2, 4), nn.Tanh()
    numbered = assert_agrees(nn.Sequential(*layers), images(2, 3), gone=2)
    assert list(numbered.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    numbered.append(nn.ReLU())  # takes the next number, nobody else's
    assert len(numbered) == 5
    names = ["conv1", "bn1", "act1", "conv2", "bn2", "act2"]
    named = assert_agrees(nn.Sequential(dict(zip(names, layers, strict=True))), images(2, 3), gone=2)
    assert [name for name, _ in named.named_children()] == ["conv1", "act1", "conv2", "act2"]


def test_a_shared_sequence_is_fused_once():
    block = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), norm(2, 3))
    fused = assert_agrees(nn.Sequential(block, nn.Tanh(), block), images(2, 3), gone=1)
    assert fused[0] is fused[2]


def test_a_shared_normalisation_goes_into_both():
    shared = norm(2, 3)
    net = nn.Sequential(nn.Conv2d(3, 3, 3), shared, nn.Tanh(), nn.Conv2d(3, 3, 3), shared)
    assert_agrees(net, images(2, 3), gone=1)


def test_tied_weights():
    first, second = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)
    second.weight = first.weight
    assert_agrees(nn.Sequential(first, norm(2, 3), second, nn.Tanh(), second), images(2, 3), gone=1)


class OwnConv(nn.Conv2d):
    def forward(self, input):
        return super().forward(input) ** 3


class SubConv(nn.Conv2d):
    """Computes as its parent does."""


class Backwards(nn.Sequential):
    def forward(self, input):
        for module in reversed(list(self)):
            input = module(input)
        return input


def watched(layer, pre=False):
    register = layer.register_forward_pre_hook if pre else layer.register_forward_hook
    register(lambda *_: None)
    return layer


def replaced(layer):
    forward = layer.forward
    layer.forward = lambda input: forward(input) * 2
    return layer


def convs_in_two_places():
    conv = nn.Conv2d(3, 3, 3, padding=1)
    return nn.Sequential(conv, norm(2, 3), nn.Tanh(), conv)


UNTOUCHED = {
    "convolution with a hook": lambda: nn.Sequential(watched(nn.Conv2d(3, 3, 3)), norm(2, 3)),
    "convolution with a pre-hook": lambda: nn.Sequential(watched(nn.Conv2d(3, 3, 3), pre=True), norm(2, 3)),
    "norm with a hook": lambda: nn.Sequential(nn.Conv2d(3, 3, 3), watched(norm(2, 3))),
    "norm with a pre-hook": lambda: nn.Sequential(nn.Conv2d(3, 3, 3), watched(norm(2, 3), pre=True)),
    "no running statistics": lambda: nn.Sequential(nn.Conv2d(3, 3, 3), norm(2, 3, track_running_stats=False)),
    "shared convolution": convs_in_two_places,
    "convolution with a forward of its own": lambda: nn.Sequential(OwnConv(3, 3, 3), norm(2, 3)),
    "convolution with a replaced forward": lambda: nn.Sequential(replaced(nn.Conv2d(3, 3, 3)), norm(2, 3)),
    "sequence with a forward of its own": lambda: Backwards(nn.Conv2d(3, 3, 3), norm(2, 3)),
    "something between": lambda: nn.Sequential(nn.Conv2d(3, 3, 3), nn.Tanh(), norm(2, 3)),
    "norm first": lambda: nn.Sequential(norm(2, 3), nn.Conv2d(3, 3, 3)),
    "no sequence": lambda: norm(2, 3),
}


@pytest.mark.parametrize("case", UNTOUCHED)
def test_left_alone(case):
    net = UNTOUCHED[case]()
    x = images(2, 3)
    fused = assert_agrees(net, x, gone=0)
    np.testing.assert_array_equal(fused(x).data, copy.deepcopy(net).eval()(x).data)


def test_a_hook_on_a_sequence_does_not_matter():
    net = nn.Sequential(watched(nn.Sequential(nn.Conv2d(3, 3, 3), norm(2, 3))))
    assert_agrees(net, images(2, 3), gone=1)


def test_a_subclass_that_computes_as_its_parent_is_fused():
    assert_agrees(nn.Sequential(SubConv(3, 3, 3), norm(2, 3)), images(2, 3), gone=1)


@pytest.mark.parametrize(
    ("layer", "message"),
    [(norm(2, 5), "(5,)"), (norm(3, 3), "BatchNorm3d needs an input of 5 axes")],
    ids=["channels", "rank"],
)
def test_errors_stay(layer, message):
    fused = nn.fuse(nn.Sequential(nn.Conv2d(3, 3, 3), layer))
    assert len(fused) == 2
    with pytest.raises(ShapeError, match=re.escape(message)):
        fused(images(2, 3))


def test_gradients_are_wanted_as_before():
    frozen = nn.Sequential(nn.Conv2d(3, 3, 3), norm(2, 3)).requires_grad_(False)
    assert not any(parameter.requires_grad for parameter in nn.fuse(frozen).parameters())
    fused = nn.fuse(nn.Sequential(nn.Conv2d(3, 3, 3, bias=False), norm(2, 3)))
    assert all(isinstance(parameter, nn.Parameter) and parameter.requires_grad for parameter in fused.parameters())


def test_pickles_copies_and_trains_on():
    net = nn.fuse(nn.Sequential(nn.Conv2d(3, 4, 3), norm(2, 4), nn.ReLU()))
    x = images(2, 3)
    for duplicate in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net), nn.fuse(net)):
        np.testing.assert_array_equal(duplicate(x).data, net(x).data)
    net.train()(x).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_agrees_with_torch():
    torch = pytest.importorskip("torch")
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    theirs = torch.nn.Sequential(torch.nn.Conv2d(4, 6, 3, groups=2), torch.nn.BatchNorm2d(6)).double()
    ours = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), norm(2, 6)).double()
    theirs.load_state_dict({key: torch.from_numpy(array) for key, array in ours.state_dict().items()})
    expected = fuse_conv_bn_eval(*theirs.eval()).state_dict()
    for key, array in nn.fuse(ours)[0].state_dict().items():
        np.testing.assert_allclose(array, expected[key].numpy(), rtol=1e-12)


def test_only_modules():
    with pytest.raises(TypeError, match="fuse takes a Module, got function"):
        nn.fuse(nc.functional.relu)
