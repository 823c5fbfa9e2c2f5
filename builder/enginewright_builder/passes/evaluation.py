"""Layers of constants: how much they make, and what, by ONNX Runtime in one session without its own optimizations."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_state

from enginewright_builder.network import shapes
from enginewright_builder.network.network import Array, Network, is_computable

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


def sizes(network: Network, nodes: Sequence[ir.Node]) -> dict[ir.Value, int]:
    """Bytes of the plain tensors that layers make, inferred from their constants: a model's own claims are not asked.

    What cannot be known before it is computed is left out.
    """
    arrays = {value.name or "": network.constant(value) for value in _given(nodes)}
    known = {name: array for name, array in arrays.items() if array is not None}
    light = _model(network, nodes, known)
    small = (each for each in known.items() if each[1].nbytes <= shapes.SMALL)
    light.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in small)
    found = shapes.inferred([light])
    told = {info.name: _size(info.type) for info in found.graph.value_info} if found else {}
    made = (value for node in nodes for value in node.outputs)
    return {value: size for value in made if (size := told.get(value.name or "")) is not None}


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
    feeds: dict[str, Array] = {}
    for value in _given(nodes):
        array = known[value] if known and value in known else network.constant(value)
        assert array is not None, f"{value.name} is not a constant"
        feeds[value.name or ""] = np.ascontiguousarray(array).reshape(array.shape)
    model = _model(network, nodes, feeds)
    model.graph.output.extend(onnx.ValueInfoProto(name=value.name or "") for value in wanted)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    results: list[Array] = session.run([value.name for value in wanted], feeds)
    return results


def _given(nodes: Sequence[ir.Node]) -> list[ir.Value]:
    """What the layers read and do not make, once each."""
    made = {value for node in nodes for value in node.outputs}
    read = dict.fromkeys(value for node in nodes for value in node.inputs if value is not None)
    return [value for value in read if value not in made]


def _model(network: Network, nodes: Sequence[ir.Node], feeds: Mapping[str, Array]) -> onnx.ModelProto:
    """The layers with what they read as inputs, and no outputs yet."""
    inputs = [
        onnx.helper.make_tensor_value_info(name, int(ir.DataType.from_numpy(array.dtype).value), array.shape)
        for name, array in feeds.items()
    ]
    graph = onnx.helper.make_graph([ir.serde.serialize_node(node) for node in nodes], "constants", inputs, [])
    imports = [onnx.helper.make_opsetid("", network.opset)]
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=network.model.ir_version)


def _size(proto: onnx.TypeProto) -> int | None:
    tensor = proto.tensor_type
    dtype = ir.DataType(tensor.elem_type)
    sizes: list[int] = [dimension.dim_value for dimension in tensor.shape.dim if dimension.HasField("dim_value")]
    if not tensor.HasField("shape") or len(sizes) != len(tensor.shape.dim) or not is_computable(dtype):
        return None
    return math.prod(sizes) * math.ceil(dtype.itemsize)
