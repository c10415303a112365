"""PyTorch on the CPU, its operators called directly: no autograd graph is built or charged."""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatchmethod

import numpy as np
import torch

from .. import cases, nets
from ..reference import SCALE, SLOPE
from . import Call, Unsupported

aten = torch.ops.aten
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by number of axes
Tensors = dict[str, torch.Tensor]


def connect(threads: int) -> Torch:
    return Torch(threads)


class Torch:
    """Every case in contiguous and in channels-last memory; the reports take the better one."""

    version = torch.__version__

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)

    def to_numpy(self, array: torch.Tensor) -> np.ndarray:
        return array.detach().numpy()

    def release(self) -> None:
        """Nothing to do: PyTorch's CPU allocator caches nothing."""

    def pool_counts(self) -> None:
        """No pool."""

    @singledispatchmethod
    def prepare(self, case: cases.Case, direction: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Call]:
        raise Unsupported(f"no adapter for {type(case).__name__}")

    @prepare.register
    def _(self, case: cases.ConvCase, direction: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Call]:
        return {name: _convolution(case, direction, tensors) for name, tensors in _formats(arrays).items()}

    @prepare.register
    def _(self, case: cases.PoolCase, direction: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Call]:
        formats = _formats(arrays)
        if "contiguous" in formats and len(case.spatial) == 1:  # the operators that return indices start at 2-D
            formats["contiguous"] = _images(formats["contiguous"])
        return {name: _pool(case, direction, tensors) for name, tensors in formats.items()}

    @prepare.register
    def _(self, case: cases.NormCase, direction: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Call]:
        return {name: _batch_norm(len(case.spatial), direction, tensors) for name, tensors in _formats(arrays).items()}

    @prepare.register
    def _(self, case: cases.LinearCase, direction: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Call]:
        x, weight, grad = (torch.from_numpy(arrays[name]) for name in ("x", "weight", "grad_output"))
        call = {
            "forward": lambda: torch.nn.functional.linear(x, weight),
            "backward_data": lambda: torch.mm(grad, weight),
            "backward_weight": lambda: torch.mm(grad.t(), x),
        }[direction]
        return {"contiguous": call}

    @prepare.register
    def _(self, case: cases.MatmulCase, direction: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Call]:
        a, b = torch.from_numpy(arrays["a"]), torch.from_numpy(arrays["b"])
        return {"contiguous": lambda: torch.mm(a, b)}

    @prepare.register
    def _(self, case: cases.ArithmeticCase, direction: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Call]:
        return {name: _arithmetic(case, tensors) for name, tensors in _formats(arrays).items()}

    @prepare.register
    def _(self, case: cases.ActivationCase, direction: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Call]:
        return {name: _activation(case, direction, tensors) for name, tensors in _formats(arrays).items()}

    @prepare.register
    def _(self, case: cases.TrainCase, direction: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Call]:
        if arrays["x"].dtype != np.float32:
            raise Unsupported("training steps are measured in float32")
        x, labels = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["labels"])
        formats = {"contiguous": torch.contiguous_format}
        if x.ndim in CHANNELS_LAST:
            formats["channels_last"] = CHANNELS_LAST[x.ndim]
        return {name: _training_step(case, x, labels, memory_format) for name, memory_format in formats.items()}


def _formats(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensors]:
    """The operands in each memory format; sequences have no channels-last one, so they become images of height 1."""
    plain = {name: torch.from_numpy(array) for name, array in arrays.items()}
    if plain["x"].ndim > 3:
        return {"contiguous": plain, "channels_last": _channels_last(plain)}
    return {"contiguous": plain, "channels_last, as images": _channels_last(_images(plain))}


def _images(tensors: Tensors) -> Tensors:
    return {name: tensor.unsqueeze(2) if tensor.ndim == 3 else tensor for name, tensor in tensors.items()}


def _channels_last(tensors: Tensors) -> Tensors:
    formats = {name: CHANNELS_LAST.get(tensor.ndim, torch.contiguous_format) for name, tensor in tensors.items()}
    return {name: tensor.contiguous(memory_format=formats[name]) for name, tensor in tensors.items()}


def _lift(values: tuple[int, ...], x: torch.Tensor, fill: int) -> list[int]:
    """Window parameters for the axes `x` really has: sequences that became images get a leading axis."""
    return [fill] * (x.ndim - 2 - len(values)) + list(values)


def _lowered(call: Call, rank: int, x: torch.Tensor) -> Call:
    """`call` with the axis that `_images` added taken out of its (first) result again."""
    if x.ndim - 2 == rank:
        return call

    def lowered() -> torch.Tensor | tuple[torch.Tensor, ...]:
        result = call()
        return (result[0].squeeze(2), *result[1:]) if isinstance(result, tuple) else result.squeeze(2)

    return lowered


def _convolution(case: cases.ConvCase, direction: str, t: Tensors) -> Call:
    x, weight, grad = t["x"], t["weight"], t["grad_output"]
    stride, padding, dilation = (_lift(case.stride, x, 1), _lift(case.padding, x, 0), _lift(case.dilation, x, 1))
    options = (stride, padding, dilation, False, [0] * len(stride), case.groups)
    if direction == "forward":
        return _lowered(lambda: aten.convolution(x, weight, None, *options), len(case.spatial), x)
    mask = [direction == "backward_data", direction == "backward_weight", False]
    wanted = mask.index(True)
    return _lowered(
        lambda: aten.convolution_backward(grad, x, weight, None, *options, mask)[wanted], len(case.spatial), x
    )


def _pool(case: cases.PoolCase, direction: str, t: Tensors) -> Call:
    x, grad = t["x"], t["grad_output"]
    rank = x.ndim - 2
    window = (_lift(case.kernel, x, 1), _lift(case.stride, x, 1), _lift(case.padding, x, 0))
    if case.mode == "max":
        # With its indices, which training needs; numbacnn records its own too.
        forward = getattr(aten, f"max_pool{rank}d_with_indices")
        backward = getattr(aten, f"max_pool{rank}d_with_indices_backward")
        options = (*window, [1] * rank, False)
        indices = forward(x, *options)[1]
        calls = {
            "forward": lambda: forward(x, *options)[0],
            "backward": lambda: backward(grad, x, *options, indices),
        }
    else:
        average, average_backward = getattr(aten, f"avg_pool{rank}d"), getattr(aten, f"avg_pool{rank}d_backward")
        options = (*window, False, True, None)
        calls = {
            "forward": lambda: average(x, *options),
            "backward": lambda: average_backward(grad, x, *options),
        }
    return _lowered(calls[direction], len(case.spatial), x)


def _batch_norm(rank: int, direction: str, t: Tensors) -> Call:
    x, grad, *affine = (t[name] for name in ("x", "grad_output", "weight", "bias", "running_mean", "running_var"))
    if direction != "backward":
        training = direction == "forward"
        return _lowered(lambda: aten.native_batch_norm(x, *affine, training, 0.1, 1e-5)[0], rank, x)
    weight, _, mean, var = affine
    _, saved_mean, saved_inverse = aten.native_batch_norm(x, *affine, True, 0.1, 1e-5)
    options = (weight, mean, var, saved_mean, saved_inverse, True, 1e-5, [True, True, True])
    return _lowered(lambda: aten.native_batch_norm_backward(grad, x, *options), rank, x)


def _arithmetic(case: cases.ArithmeticCase, t: Tensors) -> Call:
    x, y = t["x"], t["y"]
    calls = {
        "add": lambda: torch.add(x, y),
        "multiply": lambda: torch.mul(x, y),
        "scale": lambda: torch.mul(x, SCALE),
        "concatenate": lambda: torch.cat((x, y), 1),
    }
    return _lowered(calls[case.function], len(case.spatial), x)


def _activation(case: cases.ActivationCase, direction: str, t: Tensors) -> Call:
    x, grad, axis = t["x"], t["grad_output"], 1
    forward: dict[str, Call] = {
        "relu": lambda: aten.relu(x),
        "leaky_relu": lambda: aten.leaky_relu(x, SLOPE),
        "sigmoid": lambda: aten.sigmoid(x),
        "tanh": lambda: aten.tanh(x),
        "silu": lambda: aten.silu(x),
        "gelu": lambda: aten.gelu(x),
        "gelu_tanh": lambda: aten.gelu(x, approximate="tanh"),
        "softmax": lambda: aten._softmax(x, axis, False),
        "log_softmax": lambda: aten._log_softmax(x, axis, False),
    }
    call = forward[case.function]
    if direction == "backward":
        y = call()
        backward: dict[str, Call] = {
            "relu": lambda: aten.threshold_backward(grad, y, 0),
            "leaky_relu": lambda: aten.leaky_relu_backward(grad, x, SLOPE, False),
            "sigmoid": lambda: aten.sigmoid_backward(grad, y),
            "tanh": lambda: aten.tanh_backward(grad, y),
            "silu": lambda: aten.silu_backward(grad, x),
            "gelu": lambda: aten.gelu_backward(grad, x),
            "gelu_tanh": lambda: aten.gelu_backward(grad, x, approximate="tanh"),
            "softmax": lambda: aten._softmax_backward_data(grad, y, axis, x.dtype),
            "log_softmax": lambda: aten._log_softmax_backward_data(grad, y, axis, x.dtype),
        }
        call = backward[case.function]
    return _lowered(call, len(case.spatial), x)


def _training_step(
    case: cases.TrainCase, x: torch.Tensor, labels: torch.Tensor, memory_format: torch.memory_format
) -> Call:
    net = nets.NETS[case.net].build(torch.nn, lambda tensors: torch.cat(tensors, 1))
    start = nets.initial_state({name: tuple(tensor.shape) for name, tensor in net.state_dict().items()})
    net.load_state_dict({name: torch.from_numpy(array) for name, array in start.items()}, strict=False)
    net, x = net.to(memory_format=memory_format), x.contiguous(memory_format=memory_format)
    optimizer = torch.optim.SGD(net.parameters(), lr=nets.RATE, momentum=0.9)

    def step() -> torch.Tensor:
        with torch.enable_grad():
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(net(x), labels)
            loss.backward()
            optimizer.step()
        return loss

    return step
