"""ONNX Runtime: forward convolutions only, as one-node models whose weight is a constant, packed beforehand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from ..cases import ConvCase
from . import Call
from ._engine import Engine


def connect(threads: int) -> OnnxRuntime:
    return OnnxRuntime(threads)


class OnnxRuntime(Engine):
    """A session per case."""

    version = onnxruntime.__version__

    def __init__(self, threads: int) -> None:
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.options.inter_op_num_threads = 1
        # Idle threads must not spin while another library is being timed.
        self.options.add_session_config_entry("session.force_spinning_stop", "1")

    def _calls(self, case: ConvCase, arrays: Mapping[str, np.ndarray]) -> dict[str, Call]:
        session = onnxruntime.InferenceSession(
            _model(case, arrays["weight"]), self.options, providers=["CPUExecutionProvider"]
        )
        feed = {"x": arrays["x"]}
        return {"contiguous": lambda: session.run(None, feed)[0]}


def _model(case: ConvCase, weight: np.ndarray) -> bytes:
    node = helper.make_node(
        "Conv",
        ["x", "weight"],
        ["y"],
        kernel_shape=case.kernel,
        strides=case.stride,
        pads=case.padding * 2,
        dilations=case.dilation,
        group=case.groups,
    )
    graph = helper.make_graph(
        [node],
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, case.input_shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, case.output_shape)],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()
