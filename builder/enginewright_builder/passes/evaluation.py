"""Layers of constants, computed by ONNX Runtime in one session without its own optimizations."""

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_state

from enginewright_builder.network.network import Array, Network

_REFUSALS = (
    onnxruntime_state.Fail,
    onnxruntime_state.InvalidArgument,
    onnxruntime_state.InvalidGraph,
    onnxruntime_state.NotImplemented,
    onnxruntime_state.RuntimeException,
)


class FailedError(Exception):
    """ONNX Runtime refused a layer (its name in `layer`); never leaves the passes."""

    def __init__(self, layer: str, reason: str) -> None:
        super().__init__(f"{layer}: {reason}")
        self.layer = layer
        self.reason = reason


def run(network: Network, nodes: Sequence[ir.Node], wanted: Sequence[ir.Value]) -> list[Array]:
    """The values `wanted` of `nodes`, which read constants and each other. Raises FailedError naming one culprit."""
    try:
        return _run(network, nodes, wanted)
    except _REFUSALS as error:
        if len(nodes) == 1:
            reason = " ".join(str(error).split())
            raise FailedError(nodes[0].name or "", f"ONNX Runtime says: {reason[:200]}") from error
    return _by_halves(network, nodes, wanted)


def _by_halves(network: Network, nodes: Sequence[ir.Node], wanted: Sequence[ir.Value]) -> list[Array]:
    """Find the culprit: halve, so that n layers take about log2(n) sessions to blame one."""
    done: dict[ir.Value, Array] = {}
    while nodes:
        size = max(len(nodes) // 2, 1)
        first = nodes[:size]
        made = [value for node in first for value in node.outputs if value.name]
        try:
            done.update(zip(made, _run(network, first, made, done), strict=True))
            nodes = nodes[size:]
        except _REFUSALS as error:
            if size == 1:
                reason = " ".join(str(error).split())
                raise FailedError(first[0].name or "", f"ONNX Runtime says: {reason[:200]}") from error
            nodes = first
    return [done[value] for value in wanted]


def _run(
    network: Network, nodes: Sequence[ir.Node], wanted: Sequence[ir.Value], known: dict[ir.Value, Array] | None = None
) -> list[Array]:
    made = {value for node in nodes for value in node.outputs}
    feeds: dict[str, Array] = {}
    inputs: list[onnx.ValueInfoProto] = []
    for value in dict.fromkeys(value for node in nodes for value in node.inputs if value is not None):
        if value not in made:
            array = known[value] if known and value in known else network.constant(value)
            assert array is not None, f"{value.name} is not a constant"
            feeds[value.name or ""] = np.ascontiguousarray(array).reshape(array.shape)
            inputs.append(onnx.helper.make_tensor_value_info(value.name or "", _type(array), array.shape))
    outputs = [onnx.ValueInfoProto(name=value.name or "") for value in wanted]
    graph = onnx.helper.make_graph([ir.serde.serialize_node(node) for node in nodes], "constants", inputs, outputs)
    imports = [onnx.helper.make_opsetid("", network.opset)]
    model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=network.model.ir_version)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    results: list[Array] = session.run([value.name for value in wanted], feeds)
    return results


def _type(array: Array) -> int:
    return int(ir.DataType.from_numpy(array.dtype).value)
