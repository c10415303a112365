"""numbacnn: its ops on NumPy arrays whose memory is channels-last, as they are inside a net."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import singledispatchmethod

import numpy as np

import numbacnn as nc
from numbacnn.ops import activation, arithmetic, joining, layout, linear, matmul, memory, norm, pool

from .. import cases, nets
from ..reference import SCALE, SLOPE
from . import Call, Unsupported


def connect(threads: int) -> NumbaCNN:
    return NumbaCNN(threads)


class NumbaCNN:
    """Activations and gradients arrive channels-last; weights are C-contiguous, their packing is timed."""

    version = nc.__version__

    def __init__(self, threads: int) -> None:
        nc.set_num_threads(threads)
        # Real nets have layers whose last row or column no window reaches; that is not news here.
        warnings.simplefilter("ignore", nc.errors.PaddingWarning)

    def to_numpy(self, array: np.ndarray) -> np.ndarray:
        return array

    def release(self) -> None:
        nc.release_memory()

    def pool_counts(self) -> tuple[int, int]:
        stats = nc.memory_stats()
        return stats.hits, stats.misses

    @singledispatchmethod
    def prepare(self, case: cases.Case, direction: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Call]:
        raise Unsupported(f"no adapter for {type(case).__name__}")

    @prepare.register
    def _(self, case: cases.ConvCase, direction: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Call]:
        x, grad, weight = _channels_last(arrays["x"]), _channels_last(arrays["grad_output"]), arrays["weight"]
        options = {name: getattr(case, name) for name in ("stride", "padding", "dilation", "groups")}
        call = {
            "forward": lambda: nc.ops.conv_forward(x, weight, **options),
            "backward_data": lambda: nc.ops.conv_backward_data(grad, weight, case.input_shape, **options),
            "backward_weight": lambda: nc.ops.conv_backward_weight(grad, x, case.weight_shape, **options),
        }[direction]
        return {"channels_last": call}

    @prepare.register
    def _(self, case: cases.PoolCase, direction: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Call]:
        x, grad = _channels_last(arrays["x"]), _channels_last(arrays["grad_output"])
        options = {"stride": case.stride, "padding": case.padding}
        if case.mode == "max":
            _, offsets = pool.max_pool_forward(x, case.kernel, **options)
            calls = {
                "forward": lambda: pool.max_pool_forward(x, case.kernel, **options)[0],
                "backward": lambda: pool.max_pool_backward(grad, offsets, x.shape, case.kernel, **options),
            }
        else:
            calls = {
                "forward": lambda: pool.avg_pool_forward(x, case.kernel, **options),
                "backward": lambda: pool.avg_pool_backward(grad, x.shape, case.kernel, **options),
            }
        return {"channels_last": calls[direction]}

    @prepare.register
    def _(self, case: cases.NormCase, direction: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Call]:
        x, grad = _channels_last(arrays["x"]), _channels_last(arrays["grad_output"])
        affine = tuple(arrays[name] for name in ("weight", "bias", "running_mean", "running_var"))
        _, saved = norm.batch_norm_forward(x, *affine) if direction == "backward" else (None, None)
        call = {
            "forward": lambda: norm.batch_norm_forward(x, *affine)[0],
            "backward": lambda: norm.batch_norm_backward(grad, saved),
            "evaluation": lambda: norm.batch_norm_forward(x, *affine, training=False)[0],
        }[direction]
        return {"channels_last": call}

    @prepare.register
    def _(self, case: cases.LinearCase, direction: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Call]:
        x, weight, grad = (arrays[name] for name in ("x", "weight", "grad_output"))
        call = {
            "forward": lambda: linear.linear_forward(x, weight),
            "backward_data": lambda: linear.linear_backward_input(grad, weight),
            "backward_weight": lambda: linear.linear_backward_weight(grad, x),
        }[direction]
        return {"contiguous": call}

    @prepare.register
    def _(self, case: cases.MatmulCase, direction: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Call]:
        a, b = arrays["a"], arrays["b"]
        return {"contiguous": lambda: matmul.matmul(a, b)}

    @prepare.register
    def _(self, case: cases.ArithmeticCase, direction: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Call]:
        x, y = _channels_last(arrays["x"]), _channels_last(arrays["y"])
        number = np.array(SCALE, x.dtype)
        calls = {
            "add": lambda: arithmetic.elementwise(np.add, x, y),
            "multiply": lambda: arithmetic.elementwise(np.multiply, x, y),
            "scale": lambda: arithmetic.elementwise(np.multiply, x, number),
            "concatenate": lambda: joining.concatenate((x, y), 1),
        }
        return {"channels_last": calls[case.function]}

    @prepare.register
    def _(self, case: cases.ActivationCase, direction: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Call]:
        x, grad = _channels_last(arrays["x"]), _channels_last(arrays["grad_output"])
        name, form, _ = case.function.partition("_tanh")
        options = ["tanh"] if form else [SLOPE] if name == "leaky_relu" else []
        forward, backward = (getattr(activation, f"{name}_{way}") for way in ("forward", "backward"))
        if direction == "forward":
            return {"channels_last": lambda: forward(x, *options)}
        saved = x if name in ("leaky_relu", "silu", "gelu") else forward(x)
        return {"channels_last": lambda: backward(grad, saved, *options)}

    @prepare.register
    def _(self, case: cases.TrainCase, direction: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Call]:
        if arrays["x"].dtype != np.float32:
            raise Unsupported("training steps are measured in float32")
        return {"channels_last": _training_step(case, _channels_last(arrays["x"]), arrays["labels"])}


def _training_step(case: cases.TrainCase, x: np.ndarray, labels: np.ndarray) -> Call:
    net = nets.NETS[case.net].build(nc.nn, lambda tensors: nc.functional.concatenate(tensors, 1))
    start = nets.initial_state({name: array.shape for name, array in net.state_dict().items()})
    net.load_state_dict(start, strict=False)
    optimizer = nc.optim.SGD(net.parameters(), lr=nets.RATE, momentum=0.9)

    def step() -> np.ndarray:
        optimizer.zero_grad()
        loss = nc.functional.cross_entropy(net(x), labels)
        loss.backward()
        optimizer.step()
        return loss.numpy()

    return step


def _channels_last(array: np.ndarray) -> np.ndarray:
    """A copy in the memory that ops return: channels side by side, and aligned."""
    image = array.ndim > 2
    copy = (layout.empty_channels_last if image else memory.empty)(array.shape, array.dtype)
    copy[...] = array
    return copy
