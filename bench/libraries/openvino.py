"""OpenVINO: forward convolutions only, as models of one operation whose weight is a constant, packed beforehand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import openvino
from openvino import opset13 as operations
from openvino.preprocess import PrePostProcessor

from ..cases import ConvCase
from . import Call
from ._engine import Engine


def connect(threads: int) -> OpenVINO:
    return OpenVINO(threads)


class OpenVINO(Engine):
    """A compiled model per case, between tensors of either memory format."""

    version = openvino.__version__.partition("-")[0]

    def __init__(self, threads: int) -> None:
        self.core = openvino.Core()
        self.options = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",  # never bfloat16 in its place
        }

    def _calls(self, case: ConvCase, arrays: Mapping[str, np.ndarray]) -> dict[str, Call]:
        return {name: self._call(case, arrays, name) for name in ("contiguous", "channels_last")}

    def _call(self, case: ConvCase, arrays: Mapping[str, np.ndarray], memory_format: str) -> Call:
        model, x = _model(case, arrays["weight"]), np.ascontiguousarray(arrays["x"])
        last = memory_format == "channels_last"
        if last:
            model, x = _channels_last(model), np.ascontiguousarray(np.moveaxis(x, 1, -1))
        request = self.core.compile_model(model, "CPU", self.options).create_infer_request()
        tensor = openvino.Tensor(x, shared_memory=True)

        def call() -> np.ndarray:
            request.set_input_tensor(tensor)  # which keeps no array alive: the closure does
            request.infer()
            y = request.get_output_tensor().data
            return np.moveaxis(y, -1, 1) if last else y

        return call


def _model(case: ConvCase, weight: np.ndarray) -> openvino.Model:
    x = operations.parameter(case.input_shape, np.float32)
    window = (list(case.stride), list(case.padding), list(case.padding), list(case.dilation))
    if case.groups == 1:
        y = operations.convolution(x, operations.constant(weight), *window)
    else:
        grouped = weight.reshape(case.groups, -1, *weight.shape[1:])
        y = operations.group_convolution(x, operations.constant(grouped), *window)
    return openvino.Model([y], [x])


def _channels_last(model: openvino.Model) -> openvino.Model:
    """The same between tensors whose channels come last: what its kernels prefer is in no need of being turned."""
    rank = len(model.input().shape) - 2
    spatial = "DHW"[-rank:]
    change = PrePostProcessor(model)
    for side in (change.input(), change.output()):
        side.tensor().set_layout(openvino.Layout(f"N{spatial}C"))
        side.model().set_layout(openvino.Layout(f"NC{spatial}"))
    return change.build()
