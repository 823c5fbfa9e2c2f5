"""A narrow precision simulated on the CPU: each layer computes in float32, and what it makes is rounded.

So do the GPU's kernels, whose sums are float32. The very pass that narrows a plan says which values are narrow.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from enginewright_builder.network.network import Network
from enginewright_builder.passes.precision import NarrowFloats

_WIDE = ir.DataType.FLOAT


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounded:
    """`names` says under which name a value of the original network is found, where it is rounded."""

    network: Network
    names: Mapping[str, str]


def rounded(network: Network, dtype: ir.DataType, keep: tuple[str, ...]) -> Rounded:
    """A copy of a float32 network that rounds as one in `dtype` would; layers that a glob of `keep` names do not."""
    copy = network.copy()
    NarrowFloats(dtype=dtype, keep=keep).apply(copy)
    for value in copy.graph.initializers.values():
        if value.dtype is dtype and value.const_value is not None:
            value.const_value = ir.tensor(value.const_value.numpy().astype(np.float32), name=value.name)
            value.type = ir.TensorType(_WIDE)
    names: dict[str, str] = {}
    for node in list(copy.layers()):
        for value in node.outputs:
            if value.dtype is dtype:
                names[value.name or ""] = _round(copy, node, value, dtype)
    return Rounded(network=copy, names=names)


def _round(network: Network, node: ir.Node, value: ir.Value, dtype: ir.DataType) -> str:
    """Let every reader of `value` read it rounded, in float32; returns the rounded value's name."""
    readers = list(value.uses())
    narrow, last = value, node
    if node.op_type != "Cast":
        value.type = ir.TensorType(_WIDE)
        last = _cast(network, value, dtype, node)
        narrow = last.outputs[0]
    wide = _cast(network, narrow, _WIDE, last).outputs[0]
    for use in readers:
        use.node.replace_input_with(use.idx, wide)
    return wide.name or ""


def _cast(network: Network, value: ir.Value, dtype: ir.DataType, after: ir.Node) -> ir.Node:
    node = ir.Node("", "Cast", [value], [ir.AttrInt64("to", dtype.value)], name=network.fresh(f"Round:{value.name}"))
    node.outputs[0].name = network.fresh(f"{value.name}_rounded")
    node.outputs[0].type, node.outputs[0].shape = ir.TensorType(dtype), value.shape
    network.graph.insert_after(after, node)
    return node
