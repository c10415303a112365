"""Module: what it finds, its state, its modes, hooks, copies and text."""

import copy
import pickle

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import nn
from numbacnn.errors import DTypeError, StateDictError


class Scale(nn.Module):
    def __init__(self, channels=2):
        super().__init__()
        self.weight = nn.Parameter(np.ones(channels, np.float32))
        self.register_buffer("count", np.zeros((), np.int64))
        self.register_buffer("scratch", np.zeros(3, np.float32), persistent=False)
        self.register_buffer("absent", None)

    def forward(self, input):
        return input * self.weight


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = Scale()
        self.own = nn.Parameter(np.zeros(1, np.float32))
        self.layers = nn.ModuleList([Scale(), nn.Sequential(Scale(3), nn.Identity())])
        self.not_registered = [Scale()]

    def forward(self, input):
        return self.layers[0](self.first(input)) + self.own


STATE_KEYS = [
    "own",
    "first.weight",
    "first.count",
    "layers.0.weight",
    "layers.0.count",
    "layers.1.0.weight",
    "layers.1.0.count",
]


def values(tensor):
    return tensor.data.tolist()


# ------------------------------------------------------------------------------------------------------ registration


def test_names():
    net = Net()
    assert [name for name, _ in net.named_parameters()] == [key for key in STATE_KEYS if "count" not in key]
    assert [name for name, _ in net.named_parameters("net", recurse=False)] == ["net.own"]
    assert [name for name, _ in net.named_buffers()] == [
        f"{path}.{name}" for path in ("first", "layers.0", "layers.1.0") for name in ("count", "scratch")
    ]
    assert [name for name, _ in net.named_children()] == ["first", "layers"]
    assert [name for name, _ in net.named_modules()] == [
        "",
        "first",
        "layers",
        "layers.0",
        "layers.1",
        "layers.1.0",
        "layers.1.1",
    ]
    assert len(list(net.parameters())) == 4
    assert len(list(net.buffers())) == 6
    assert list(net.children()) == [net.first, net.layers]
    assert next(net.modules()) is net


def test_shared_parameters_are_listed_once_but_saved_twice():
    net = nn.Sequential(Scale(), Scale())
    net[1].weight = net[0].weight
    assert [name for name, _ in net.named_parameters()] == ["0.weight"]
    assert [key for key in net.state_dict() if "weight" in key] == ["0.weight", "1.weight"]
    shared = Scale()
    assert len(list(nn.Sequential(shared, shared).modules())) == 2


def test_parameters_are_not_replaced_by_accident():
    layer = Scale()
    with pytest.raises(TypeError, match=r"Scale.weight is a parameter and cannot become a ndarray.*weight\.data"):
        layer.weight = np.ones(2)
    layer.weight = nn.Parameter(np.zeros(2, np.float32))
    layer.weight = None
    assert not list(layer.parameters())


def test_buffers_stay_arrays():
    layer = Scale()
    layer.count += 1
    assert isinstance(layer.count, np.ndarray)
    layer.count = 5
    assert isinstance(layer.count, np.ndarray)
    layer.scratch = nc.Tensor(np.ones(3, np.float32))
    assert isinstance(layer.scratch, np.ndarray)


def test_attributes_may_be_assigned_without_calling_the_base():
    class Careless(nn.Module):
        def __init__(self):
            self.inner = Scale()

    assert [name for name, _ in Careless().named_parameters()] == ["inner.weight"]


def test_forward_must_be_defined():
    with pytest.raises(NotImplementedError, match="Module does not define forward"):
        nn.Module()(1)


# -------------------------------------------------------------------------------------------------------------- state


def test_state_dict_keys_are_copies():
    net = Net()
    state = net.state_dict()
    assert list(state) == STATE_KEYS
    state["own"][0] = 7
    assert values(net.own) == [0.0]


def test_load_state_dict_round_trip():
    net, other = Net(), Net()
    for parameter in net.parameters():
        parameter.data[...] = np.random.default_rng(0).standard_normal(parameter.shape)
    net.first.count[...] = 9
    memory = other.own.data
    assert other.load_state_dict(net.state_dict()) == ([], [])
    assert other.own.data is memory
    for (key, ours), theirs in zip(other.state_dict().items(), net.state_dict().values(), strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=key)


def test_load_state_dict_lists_everything_and_changes_nothing():
    net = Net()
    state = {key: np.asarray(array) + 1 for key, array in net.state_dict().items()}
    del state["own"], state["layers.0.weight"]
    state["surplus"] = np.zeros(1)
    state["first.weight"] = np.zeros((2, 1))
    state["first.count"] = np.array("text")
    before = {key: array.copy() for key, array in net.state_dict().items()}
    with pytest.raises(StateDictError, match="does not fit Net; nothing was loaded") as error:
        net.load_state_dict(state)
    assert str(error.value).splitlines()[1:] == [
        "missing: own",
        "missing: layers.0.weight",
        "unexpected: surplus",
        "wrong shape: first.weight is (2, 1), should be (2,)",
        "wrong dtype: first.count is <U4, which is not a real number",
    ]
    for key, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[key])


def test_load_state_dict_not_strict():
    net = Net()
    result = net.load_state_dict({"own": [3.0], "surplus": 1}, strict=False)
    assert result.missing_keys == STATE_KEYS[1:]
    assert result.unexpected_keys == ["surplus"]
    assert values(net.own) == [3.0]
    with pytest.raises(StateDictError, match="wrong shape: own"):
        net.load_state_dict({"own": np.zeros(2)}, strict=False)


def test_load_state_dict_takes_tensors_and_converts_dtypes():
    layer = Scale()
    layer.load_state_dict({"weight": nc.Tensor(np.array([1.5, 2.5])), "count": 3})
    assert layer.weight.dtype == np.float32
    assert values(layer.weight) == [1.5, 2.5]
    assert layer.count.dtype == np.int64


def test_load_state_dict_from_torch():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Linear(3, 2)
    ours = nn.Linear(3, 2)
    ours.load_state_dict(theirs.state_dict(keep_vars=True))
    np.testing.assert_array_equal(ours.weight.data, theirs.weight.detach().numpy())


# --------------------------------------------------------------------------------------------- modes and conversions


def test_train_and_eval():
    net = Net()
    assert all(module.training for module in net.modules())
    assert net.eval() is net
    assert not any(module.training for module in net.modules())
    net.layers.train()
    assert [name for name, module in net.named_modules() if not module.training] == ["", "first"]


def test_apply_visits_children_first():
    seen = []
    nn.Sequential(Scale(), nn.Sequential(nn.Identity())).apply(lambda module: seen.append(type(module).__name__))
    assert seen == ["Scale", "Identity", "Sequential", "Sequential"]


def test_zero_grad_and_requires_grad():
    net = Net()
    net(np.ones((1, 2), np.float32)).sum().backward()
    assert net.own.grad is not None
    net.zero_grad()
    assert all(parameter.grad is None for parameter in net.parameters())
    net.requires_grad_(False)
    assert not net(np.ones((1, 2), np.float32)).requires_grad


def test_to():
    net = Net().double()
    assert {parameter.dtype for parameter in net.parameters()} == {np.dtype(np.float64)}
    assert net.first.scratch.dtype == np.float64
    assert net.first.count.dtype == np.int64
    assert net.float().own.dtype == np.float32
    with pytest.raises(DTypeError, match="float16"):
        net.to(np.float16)


# -------------------------------------------------------------------------------------------------------------- hooks


def test_hooks_see_and_replace():
    layer = Scale()
    calls = []

    def before(module, args):
        calls.append(("before", args[0].shape))
        return (args[0] * 10,)

    def after(module, args, output):
        calls.append(("after", values(args[0]), values(output)))
        return output + 1

    first = layer.register_forward_pre_hook(before)
    second = layer.register_forward_hook(after)
    x = nc.Tensor([1.0, 2.0])
    assert values(layer(x)) == [11.0, 21.0]
    assert calls == [("before", (2,)), ("after", [10.0, 20.0], [10.0, 20.0])]
    first.remove()
    first.remove()
    assert values(layer(x)) == [2.0, 3.0]
    second.remove()
    assert values(layer(x)) == [1.0, 2.0]


def test_hooks_without_result_run_in_order_and_may_remove_themselves():
    layer = Scale()
    order = []
    with layer.register_forward_hook(lambda *_: order.append(0)):
        once = layer.register_forward_hook(lambda *_: once.remove() or order.append(1))
        layer(np.ones(2, np.float32))
        layer(np.ones(2, np.float32))
    layer(np.ones(2, np.float32))
    assert order == [0, 1, 0]


def test_a_pre_hook_may_return_one_value():
    layer = nn.Identity()
    layer.register_forward_pre_hook(lambda module, args: args[0] + 1)
    assert layer(1) == 2


def test_copies_have_their_own_hooks():
    layer = nn.Identity()
    seen = []
    handle = layer.register_forward_hook(lambda *_: seen.append(1))
    twin = copy.deepcopy(layer)
    handle.remove()
    layer(0)
    assert not seen
    twin(0)
    assert seen == [1]


# ------------------------------------------------------------------------------------------------- copies and text

LAYERS = [
    nn.Conv1d(2, 3, 3),
    nn.Conv2d(2, 4, (3, 1), padding=((1, 0), (0, 0)), groups=2),
    nn.Conv3d(1, 1, 1, bias=False),
    nn.ConvTranspose2d(2, 3, 3, 2),
    nn.BatchNorm2d(3),
    nn.BatchNorm1d(3, affine=False, track_running_stats=False),
    nn.Linear(3, 2),
    nn.Dropout(0.1),
    nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(4, 2)),
    nn.ModuleList([nn.Identity(), nn.GELU()]),
    nn.CrossEntropyLoss(np.ones(3, np.float32)),
    nn.MSELoss("sum"),
    nn.MaxPool2d(2),
    nn.AdaptiveAvgPool2d((1, None)),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_every_layer_can_be_copied(layer, duplicate):
    twin = duplicate(layer)
    assert repr(twin) == repr(layer)
    state = twin.state_dict()
    for key, array in layer.state_dict().items():
        np.testing.assert_array_equal(state[key], array)
    for ours, theirs in zip(layer.parameters(), twin.parameters(), strict=True):
        assert not np.may_share_memory(ours.data, theirs.data)


def test_repr():
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Sequential(nn.ReLU()))
    assert repr(net) == (
        "Sequential(\n"
        "  (0): Conv2d(1, 8, kernel_size=(3, 3), stride=(1, 1))\n"
        "  (1): Sequential(\n"
        "    (0): ReLU()\n"
        "  )\n"
        ")"
    )
