"""A layer in float32 by ONNX Runtime on the CPU, without optimizations: what tactics are compared with."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from enginewright_builder import emit
from enginewright_builder.emit import Blobs
from enginewright_builder.network import fused, lowering
from enginewright_builder.network.extract import extract
from enginewright_builder.network.network import FUSED_DOMAIN, Network, is_constant, reads
from enginewright_builder.plugins import emission
from enginewright_builder.tuning import trial, tune
from enginewright_runtime.engine.values import Array, Value, dtype_of

_HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def run(network: Network, feed: Mapping[str, Array]) -> Mapping[str, Value]:
    """The outputs of a network of float32."""
    blobs = Blobs()
    segment = emission.segment(lowering.to_onnx(network), network.plugins, blobs, "reference")
    taken = tuple(emit.binding(value) for value in network.inputs)
    given = tuple(emit.binding(value) for value in network.outputs)
    with trial.loaded(trial.with_options(segment, tune.REFERENCE), taken, given, blobs) as run:
        return run(feed)


def widened(network: Network) -> Network:
    """The same layer with every half type as float32: tensors, initializers, and attributes that name a type."""
    copy = network.copy()
    values = [*copy.graph.inputs, *copy.graph.initializers.values()]
    for node in copy.layers():
        values += node.outputs
        to = node.attributes.get("to")
        if to is not None and node.op_type == "Cast" and to.as_int() in (int(each) for each in _HALF):
            node.attributes["to"] = ir.AttrInt64("to", int(ir.DataType.FLOAT))
    for value in values:
        if value.dtype in _HALF:
            if value.const_value is not None:
                value.const_value = ir.tensor(wide(value.const_value.numpy()), name=value.name)
            value.type = ir.TensorType(ir.DataType.FLOAT)
    return copy


def wide(value: Array) -> Array:
    """A half type's numbers as float32."""
    return value.astype(np.float32) if value.dtype.name in ("float16", "bfloat16") else value


def sums_of(network: Network) -> Network:
    """The layers without what is done to their sums."""
    plain = network.copy()
    for node in plain.layers():
        if node.domain == FUSED_DOMAIN:
            fused.drop_activation(node)
    return plain


def behind_the_first(
    network: Network, feed: Mapping[str, Array], dtype: str = "float32"
) -> tuple[Network, Mapping[str, Array]]:
    """All layers but the first, and what they take, its result rounded to `dtype`."""
    first, *rest = network.layers()
    inside = {value for node in rest for value in node.outputs}
    parts = [
        extract(network, nodes, [each for each in taken if each not in inside], given, name="part")
        for nodes, given in (([first], first.outputs), (rest, network.outputs))
        if (taken := dict.fromkeys(value for node in nodes for value in reads(node) if not is_constant(value)))
    ]
    before, behind = parts
    made = run(before, {value.name or "": wide(feed[value.name or ""]) for value in before.inputs})
    rounded = {name: value.astype(dtype_of(dtype)) for name, value in made.items() if isinstance(value, np.ndarray)}
    known = {**feed, **rounded}
    return behind, {value.name or "": wide(known[value.name or ""]) for value in behind.inputs}
